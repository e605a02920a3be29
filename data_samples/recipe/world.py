# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""The ground truth: every fact that the corpus, the tasks and the probes draw on.

Facts about the real world are meant to be true as everyday statements ("the usual colour",
"the usual material"). A table row is one fact; a key occurs once, so every question has one answer.
"""



def _rows(table):
    """Rows of a "a|b|c" table as tuples; an empty field becomes None."""
    return [tuple(field.strip() or None for field in line.split("|")) for line in table.split("\n") if line]


WOMEN = """
Anna Emma Lucy Mia Sara Lily Rose Nina Clara Ella Ivy Zoe Maya Ruth Kate Jane Amy Nora Eva Alice
Julia Grace Helen Molly Daisy
""".split()
MEN = """
Tom Ben Sam Max Leo Jack Finn Adam Paul Noah Oscar Luke Mark Peter Hugo David Henry Felix Simon
Theo Omar Ravi Ivan Carl Eric
""".split()

# animal | sound it makes | its young | its home | class | legs | food | skill (an empty field: no clear answer)
ANIMALS = _rows("""
dog|barks|puppy|kennel|mammal|four|meat|run fast
cat|meows|kitten|house|mammal|four|fish|climb trees
cow|moos|calf|barn|mammal|four|grass|give milk
horse|neighs|foal|stable|mammal|four|hay|gallop
sheep|bleats|lamb|field|mammal|four|grass|give wool
goat|bleats|kid|hill|mammal|four|leaves|jump on rocks
pig|oinks|piglet|sty|mammal|four|corn|dig in mud
duck|quacks|duckling|pond|bird|two|bread|swim
hen|clucks|chick|coop|bird|two|seeds|lay eggs
goose|honks|gosling|farm|bird|two|grass|swim
rooster|crows|chick|coop|bird|two|seeds|wake the farm
lion|roars|cub|savanna|mammal|four|meat|hunt
tiger|growls|cub|jungle|mammal|four|meat|swim
bear|growls|cub|cave|mammal|four|honey|climb trees
wolf|howls|pup|den|mammal|four|meat|hunt
fox|yelps|kit|den|mammal|four|mice|hide
mouse|squeaks|pup|hole|mammal|four|cheese|hide
frog|croaks|tadpole|pond|amphibian|four|flies|jump
bee|buzzes|larva|hive|insect|six|nectar|make honey
owl|hoots|owlet|tree|bird|two|mice|see at night
elephant|trumpets|calf|savanna|mammal|four|leaves|carry wood
monkey|chatters|infant|jungle|mammal||bananas|swing
snake|hisses|hatchling|desert|reptile|no|mice|slide
rabbit|thumps|kit|burrow|mammal|four|carrots|hop
deer|grunts|fawn|forest|mammal|four|leaves|leap
crow|caws|chick|tree|bird|two|seeds|fly
sparrow|chirps|chick|nest|bird|two|seeds|fly
pigeon|coos|squab|city|bird|two|bread|find its way home
eagle|screeches|eaglet|mountain|bird|two|fish|fly high
parrot|talks|chick|jungle|bird|two|fruit|copy words
turkey|gobbles|poult|farm|bird|two|corn|run
donkey|brays|foal|stable|mammal|four|hay|carry bags
swan|hisses|cygnet|lake|bird|two|plants|swim
whale|sings|calf|ocean|mammal|no|krill|dive deep
dolphin|clicks|calf|ocean|mammal|no|fish|jump over waves
shark||pup|ocean|fish|no|fish|swim fast
seal|barks|pup|ice|mammal||fish|dive
penguin|squawks|chick|ice|bird|two|fish|swim
turtle||hatchling|sea|reptile|four|plants|swim slowly
crocodile|bellows|hatchling|river|reptile|four|meat|wait
spider||spiderling|web|arachnid|eight|flies|spin
ant||larva|anthill|insect|six|seeds|carry leaves
kangaroo|thumps|joey|grassland|mammal||grass|jump far
zebra|barks|foal|savanna|mammal|four|grass|run fast
giraffe|hums|calf|savanna|mammal|four|leaves|reach tall trees
camel|groans|calf|desert|mammal|four|plants|walk for days
hippo|grunts|calf|river|mammal|four|grass|stay under water
leopard|growls|cub|jungle|mammal|four|meat|climb trees
otter|chirps|pup|river|mammal|four|fish|swim
squirrel|chatters|kit|tree|mammal|four|nuts|climb trees
beaver||kit|lodge|mammal|four|bark|build dams
bat|squeaks|pup|cave|mammal|two|insects|fly at night
salmon||fry|river|fish|no|insects|swim upstream
lizard||hatchling|desert|reptile|four|insects|run up walls
toad|croaks|tadpole|pond|amphibian|four|insects|hide in mud
butterfly||caterpillar|meadow|insect|six|nectar|fly
hawk|screeches|chick|mountain|bird|two|mice|see far
ostrich|booms|chick|savanna|bird|two|plants|run fast
""")

# country | capital | continent | main language
COUNTRIES = _rows("""
France|Paris|Europe|French
Spain|Madrid|Europe|Spanish
Italy|Rome|Europe|Italian
Germany|Berlin|Europe|German
Portugal|Lisbon|Europe|Portuguese
Greece|Athens|Europe|Greek
Poland|Warsaw|Europe|Polish
Norway|Oslo|Europe|Norwegian
Sweden|Stockholm|Europe|Swedish
Finland|Helsinki|Europe|Finnish
Denmark|Copenhagen|Europe|Danish
Ireland|Dublin|Europe|English
Austria|Vienna|Europe|German
Hungary|Budapest|Europe|Hungarian
Russia|Moscow|Europe|Russian
Ukraine|Kyiv|Europe|Ukrainian
Romania|Bucharest|Europe|Romanian
Bulgaria|Sofia|Europe|Bulgarian
Croatia|Zagreb|Europe|Croatian
Iceland|Reykjavik|Europe|Icelandic
England|London|Europe|English
Scotland|Edinburgh|Europe|English
Slovakia|Bratislava|Europe|Slovak
Serbia|Belgrade|Europe|Serbian
Albania|Tirana|Europe|Albanian
Lithuania|Vilnius|Europe|Lithuanian
Latvia|Riga|Europe|Latvian
Estonia|Tallinn|Europe|Estonian
Egypt|Cairo|Africa|Arabic
Kenya|Nairobi|Africa|Swahili
Ghana|Accra|Africa|English
Morocco|Rabat|Africa|Arabic
Tunisia|Tunis|Africa|Arabic
Senegal|Dakar|Africa|French
Nigeria|Abuja|Africa|English
Angola|Luanda|Africa|Portuguese
Uganda|Kampala|Africa|English
Zambia|Lusaka|Africa|English
Libya|Tripoli|Africa|Arabic
Algeria|Algiers|Africa|Arabic
Sudan|Khartoum|Africa|Arabic
Somalia|Mogadishu|Africa|Somali
Mozambique|Maputo|Africa|Portuguese
Japan|Tokyo|Asia|Japanese
China|Beijing|Asia|Chinese
India|New Delhi|Asia|Hindi
Thailand|Bangkok|Asia|Thai
Vietnam|Hanoi|Asia|Vietnamese
Iran|Tehran|Asia|Persian
Iraq|Baghdad|Asia|Arabic
Nepal|Kathmandu|Asia|Nepali
Turkey|Ankara|Asia|Turkish
Jordan|Amman|Asia|Arabic
Qatar|Doha|Asia|Arabic
Mongolia|Ulaanbaatar|Asia|Mongolian
Lebanon|Beirut|Asia|Arabic
Syria|Damascus|Asia|Arabic
South Korea|Seoul|Asia|Korean
Pakistan|Islamabad|Asia|Urdu
Bangladesh|Dhaka|Asia|Bengali
Laos|Vientiane|Asia|Lao
Canada|Ottawa|North America|English
Mexico|Mexico City|North America|Spanish
Cuba|Havana|North America|Spanish
Jamaica|Kingston|North America|English
Panama|Panama City|North America|Spanish
Honduras|Tegucigalpa|North America|Spanish
Nicaragua|Managua|North America|Spanish
Peru|Lima|South America|Spanish
Chile|Santiago|South America|Spanish
Brazil|Brasilia|South America|Portuguese
Argentina|Buenos Aires|South America|Spanish
Colombia|Bogota|South America|Spanish
Ecuador|Quito|South America|Spanish
Uruguay|Montevideo|South America|Spanish
Venezuela|Caracas|South America|Spanish
Australia|Canberra|Oceania|English
New Zealand|Wellington|Oceania|English
Fiji|Suva|Oceania|English
""")

# word | opposite; no word occurs twice
OPPOSITES = _rows("""
hot|cold
big|small
tall|short
fast|slow
happy|sad
light|dark
wet|dry
old|young
hard|soft
full|empty
clean|dirty
rich|poor
strong|weak
loud|quiet
early|late
open|closed
up|down
left|right
day|night
good|bad
high|low
thick|thin
wide|narrow
deep|shallow
near|far
first|last
inside|outside
above|below
before|after
always|never
love|hate
laugh|cry
win|lose
buy|sell
push|pull
give|take
begin|end
remember|forget
question|answer
friend|enemy
summer|winter
north|south
east|west
true|false
safe|dangerous
easy|difficult
cheap|expensive
brave|afraid
sweet|sour
sharp|blunt
smooth|rough
awake|asleep
alive|dead
polite|rude
kind|cruel
lazy|busy
calm|angry
simple|complex
same|different
together|apart
many|few
more|less
all|none
sunrise|sunset
success|failure
increase|decrease
accept|refuse
float|sink
rise|fall
borrow|lend
build|destroy
freeze|melt
enter|exit
whisper|shout
even|odd
straight|crooked
fresh|stale
public|private
modern|ancient
guilty|innocent
noisy|silent
generous|selfish
careful|careless
useful|useless
possible|impossible
lucky|unlucky
top|bottom
front|back
war|peace
victory|defeat
attack|defend
beautiful|ugly
tight|loose
wild|tame
wise|foolish
maximum|minimum
import|export
visible|invisible
honest|dishonest
legal|illegal
patient|impatient
male|female
liquid|solid
raw|cooked
absent|present
ceiling|floor
major|minor
""")

# singular | plural
IRREGULAR_PLURALS = _rows("""
child|children
man|men
woman|women
foot|feet
tooth|teeth
goose|geese
mouse|mice
leaf|leaves
knife|knives
wolf|wolves
wife|wives
life|lives
shelf|shelves
loaf|loaves
half|halves
person|people
ox|oxen
sheep|sheep
deer|deer
baby|babies
city|cities
lady|ladies
story|stories
berry|berries
fly|flies
pony|ponies
country|countries
family|families
box|boxes
fox|foxes
bus|buses
glass|glasses
dish|dishes
watch|watches
church|churches
brush|brushes
potato|potatoes
tomato|tomatoes
hero|heroes
dress|dresses
""")

# verb | past tense
PAST_TENSES = _rows("""
go|went
eat|ate
drink|drank
run|ran
see|saw
come|came
give|gave
take|took
make|made
write|wrote
read|read
sing|sang
swim|swam
sleep|slept
buy|bought
bring|brought
think|thought
catch|caught
teach|taught
find|found
lose|lost
break|broke
speak|spoke
wake|woke
fly|flew
grow|grew
know|knew
draw|drew
throw|threw
blow|blew
sit|sat
stand|stood
feel|felt
keep|kept
leave|left
meet|met
hear|heard
tell|told
sell|sold
pay|paid
say|said
build|built
send|sent
spend|spent
win|won
begin|began
ring|rang
hide|hid
ride|rode
drive|drove
fall|fell
forget|forgot
hold|held
wear|wore
shake|shook
steal|stole
choose|chose
freeze|froze
bite|bit
dig|dug
walk|walked
play|played
jump|jumped
cook|cooked
help|helped
look|looked
open|opened
paint|painted
wash|washed
clean|cleaned
climb|climbed
laugh|laughed
call|called
ask|asked
answer|answered
carry|carried
cry|cried
try|tried
study|studied
dance|danced
smile|smiled
close|closed
love|loved
like|liked
live|lived
move|moved
stop|stopped
plan|planned
hop|hopped
clap|clapped
visit|visited
listen|listened
work|worked
talk|talked
plant|planted
pick|picked
push|pushed
pull|pulled
watch|watched
wait|waited
become|became
show|showed
lead|led
fight|fought
hang|hung
lend|lent
light|lit
rise|rose
shine|shone
shoot|shot
sink|sank
stick|stuck
sweep|swept
swing|swung
tear|tore
understand|understood
feed|fed
deal|dealt
dream|dreamed
arrive|arrived
bake|baked
borrow|borrowed
count|counted
finish|finished
follow|followed
jog|jogged
kick|kicked
learn|learned
lift|lifted
need|needed
offer|offered
order|ordered
pack|packed
reach|reached
repair|repaired
rest|rested
shout|shouted
start|started
touch|touched
travel|traveled
turn|turned
use|used
want|wanted
whisper|whispered
worry|worried
hurry|hurried
marry|married
drop|dropped
grab|grabbed
""")

# category -> members; no member occurs twice
CATEGORIES = {
    "fruit": (
        "apple banana orange pear grape lemon peach plum cherry mango melon kiwi apricot "
        "pineapple"
    ).split(),
    "vegetable": (
        "carrot potato onion cabbage pea bean spinach garlic leek radish turnip pumpkin "
        "cucumber lettuce"
    ).split(),
    "vehicle": (
        "car bus train bicycle truck boat plane tram taxi ship motorbike tractor helicopter "
        "van"
    ).split(),
    "tool": (
        "hammer saw drill shovel rake axe wrench screwdriver ladder pliers chisel broom"
    ).split(),
    "instrument": "piano guitar violin drum flute trumpet harp cello organ banjo clarinet".split(),
    "furniture": "chair table bed sofa desk shelf cupboard wardrobe stool bench".split(),
    "garment": "shirt coat hat scarf dress sock jacket skirt sweater glove belt".split(),
    "drink": "milk water tea coffee juice lemonade cocoa".split(),
    "metal": "iron gold silver copper tin lead steel bronze zinc".split(),
    "sport": "tennis football hockey golf rugby swimming boxing skiing rowing".split(),
    "flower": "tulip daisy lily orchid violet sunflower poppy daffodil".split(),
    "tree": "oak pine birch maple willow elm beech palm cedar".split(),
    "building": "school church castle hospital library museum hotel factory palace temple".split(),
    "gem": "diamond ruby emerald pearl sapphire opal".split(),
    "shape": "circle square triangle oval star cube".split(),
}

# thing | its usual colour
COLORS_OF = _rows("""
banana|yellow
lemon|yellow
canary|yellow
grass|green
leaf|green
frog|green
cucumber|green
pea|green
emerald|green
lettuce|green
sky|blue
sea|blue
sapphire|blue
blueberry|blue
snow|white
milk|white
cloud|white
salt|white
swan|white
chalk|white
sugar|white
coal|black
crow|black
night|black
tar|black
ink|black
blood|red
tomato|red
strawberry|red
ruby|red
cherry|red
rose|red
brick|red
orange|orange
carrot|orange
pumpkin|orange
apricot|orange
chocolate|brown
mud|brown
bear|brown
wood|brown
coffee|brown
walnut|brown
elephant|gray
mouse|gray
stone|gray
ash|gray
flamingo|pink
pig|pink
plum|purple
violet|purple
eggplant|purple
sunflower|yellow
butter|yellow
spinach|green
broccoli|green
cactus|green
clover|green
jeans|blue
ocean|blue
cotton|white
paper|white
flour|white
polar bear|white
raven|black
tire|black
panther|black
ladybug|red
raspberry|red
chestnut|brown
cinnamon|brown
soil|brown
cement|gray
lavender|purple
salmon|pink
""")

# job | workplace | what the person does
JOBS = _rows("""
baker|bakery|bakes bread
teacher|school|teaches children
doctor|hospital|helps sick people
nurse|clinic|looks after patients
farmer|farm|grows food
pilot|airport|flies planes
sailor|ship|sails the sea
chef|kitchen|cooks meals
waiter|restaurant|serves food
judge|court|decides cases
actor|theater|plays roles
painter|studio|paints pictures
scientist|laboratory|does experiments
librarian|library|lends books
miner|mine|digs for coal
barber|barbershop|cuts hair
butcher|butchery|sells meat
gardener|garden|grows flowers
mechanic|garage|repairs cars
banker|bank|lends money
soldier|army|defends the country
fisherman|harbor|catches fish
carpenter|workshop|builds tables
tailor|shop|sews clothes
astronaut|space|explores space
priest|church|leads prayers
cashier|supermarket|takes payments
guard|prison|watches the gates
clown|circus|makes people laugh
shepherd|hills|looks after sheep
postman|post office|delivers letters
driver|bus station|drives the bus
author|office|writes novels
musician|concert hall|plays music
ranger|park|protects animals
""")

# thing | what it is for
TOOLS = _rows("""
knife|cut bread
pen|write letters
key|open doors
broom|sweep the floor
spoon|eat soup
needle|sew clothes
hammer|hit nails
umbrella|stay dry
clock|tell the time
phone|call friends
ladder|climb up high
lamp|light a room
oven|bake cakes
towel|dry your hands
map|find the way
rope|tie things
brush|paint walls
shovel|dig holes
scissors|cut paper
soap|wash your hands
camera|take pictures
bucket|carry water
axe|chop wood
candle|light the dark
scale|weigh things
ruler|draw straight lines
telescope|look at stars
microscope|see tiny things
thermometer|measure heat
comb|tidy your hair
net|catch fish
pillow|rest your head
stove|cook food
kettle|boil water
fridge|keep food cold
bed|sleep at night
boat|cross the river
calculator|add numbers
compass|find north
blanket|keep warm
""")

# thing | what it is usually made of
MATERIALS = _rows("""
window|glass
table|wood
coin|metal
book|paper
shirt|cotton
bottle|plastic
bridge|steel
brick|clay
shoe|leather
sweater|wool
statue|stone
door|wood
newspaper|paper
mirror|glass
nail|iron
castle|stone
knife|steel
sail|cloth
belt|leather
scarf|silk
snowman|snow
cheese|milk
bread|flour
wine|grapes
fence|wood
jar|glass
tire|rubber
eraser|rubber
candle|wax
wedding ring|gold
pencil|wood
barrel|wood
vase|glass
lens|glass
light bulb|glass
bucket|plastic
towel|cotton
jeans|cotton
envelope|paper
map|paper
saddle|leather
wallet|leather
blanket|wool
horseshoe|iron
anchor|iron
wire|copper
igloo|snow
railway|steel
butter|milk
omelette|eggs
""")

# English | French | gender
FRENCH_NOUNS = _rows("""
dog|chien|m
cat|chat|m
horse|cheval|m
cow|vache|f
bird|oiseau|m
fish|poisson|m
bear|ours|m
wolf|loup|m
mouse|souris|f
rabbit|lapin|m
lion|lion|m
pig|cochon|m
duck|canard|m
house|maison|f
garden|jardin|m
door|porte|f
window|fenêtre|f
table|table|f
chair|chaise|f
bed|lit|m
kitchen|cuisine|f
school|école|f
book|livre|m
pen|stylo|m
letter|lettre|f
car|voiture|f
train|train|m
boat|bateau|m
bridge|pont|m
road|route|f
city|ville|f
river|rivière|f
sea|mer|f
mountain|montagne|f
forest|forêt|f
tree|arbre|m
flower|fleur|f
moon|lune|f
star|étoile|f
rain|pluie|f
snow|neige|f
bread|pain|m
cheese|fromage|m
milk|lait|m
water|eau|f
apple|pomme|f
cake|gâteau|m
soup|soupe|f
egg|œuf|m
meat|viande|f
hand|main|f
head|tête|f
eye|œil|m
foot|pied|m
man|homme|m
woman|femme|f
child|enfant|m
king|roi|m
queen|reine|f
friend|ami|m
brother|frère|m
sister|sœur|f
mother|mère|f
father|père|m
hat|chapeau|m
shirt|chemise|f
shoe|chaussure|f
coat|manteau|m
key|clé|f
clock|horloge|f
night|nuit|f
money|argent|m
church|église|f
castle|château|m
knife|couteau|m
spoon|cuillère|f
glass|verre|m
box|boîte|f
ball|balle|f
fire|feu|m
stone|pierre|f
bag|sac|m
tooth|dent|f
heart|cœur|m
leg|jambe|f
nose|nez|m
beach|plage|f
shop|magasin|m
street|rue|f
wall|mur|m
roof|toit|m
lamp|lampe|f
plate|assiette|f
bottle|bouteille|f
dress|robe|f
skirt|jupe|f
glove|gant|m
ship|navire|m
plane|avion|m
island|île|f
lake|lac|m
potato|pomme de terre|f
carrot|carotte|f
orange|orange|f
cherry|cerise|f
pear|poire|f
onion|oignon|m
sheep|mouton|m
goat|chèvre|f
hen|poule|f
goose|oie|f
monkey|singe|m
frog|grenouille|f
snake|serpent|m
bee|abeille|f
doctor|médecin|m
baker|boulanger|m
farmer|fermier|m
""")

# nouns that take no "a" in English ("a milk") and are used with the definite article only
FRENCH_MASS = frozenset("rain snow money water milk bread cheese meat soup fire sea moon".split())

# English | masculine | feminine; the colours follow the noun
FRENCH_COLORS = _rows("""
red|rouge|rouge
green|vert|verte
blue|bleu|bleue
white|blanc|blanche
black|noir|noire
yellow|jaune|jaune
gray|gris|grise
pink|rose|rose
""")

# English | masculine | feminine; used after "est" only, so their place does not matter
FRENCH_ADJECTIVES = _rows("""
big|grand|grande
small|petit|petite
beautiful|beau|belle
old|vieux|vieille
good|bon|bonne
new|nouveau|nouvelle
cold|froid|froide
hot|chaud|chaude
""")

# English | French; each is followed by a noun phrase
FRENCH_VERBS = _rows("""
I see|je vois
I have|j'ai
I want|je veux
we have|nous avons
we see|nous voyons
she has|elle a
he sees|il voit
she wants|elle veut
""")

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
COLORS = "red blue green yellow white black brown gray pink purple orange".split()

# Everyday words that fill the slots of the prose; they carry no facts.
THINGS = (
    "ball kite hat book boat drum car doll coat cup box bag bike key ring lamp shirt pen toy balloon "
    "umbrella basket bell scarf clock"
).split()
PETS = "dog cat rabbit horse duck goat pig hen parrot sheep mouse donkey".split()
FOODS = "cake soup bread apples cheese pie eggs rice pasta salad cookies pancakes".split()
PLACES = (
    "park garden forest river beach school market farm library hill lake kitchen barn street yard"
).split()
ROOMS = "kitchen bedroom garden attic barn hall cellar yard".split()
SPOTS = (
    "under the bed|behind the door|in the garden|on the shelf|near the river|under a big tree|"
    "in the kitchen|behind the sofa|on the stairs|inside a box|next to the lamp|in the tall grass"
).split("|")
WEATHER = "sunny rainy windy cold warm cloudy snowy foggy".split()

# what | good words | bad words, for reviews
REVIEW_WORDS = {
    "food": ("delicious fresh tasty wonderful", "awful cold stale disgusting"),
    "room": ("clean cozy bright lovely", "dirty dark noisy smelly"),
    "waiter": ("kind polite friendly helpful", "rude slow angry careless"),
    "film": ("exciting funny brilliant moving", "boring stupid silly terrible"),
    "book": ("interesting clever beautiful gripping", "dull confusing bad tedious"),
    "phone": ("fast reliable excellent handy", "slow broken useless cheap"),
    "hotel": ("comfortable quiet great charming", "dirty noisy horrible ugly"),
    "music": ("lovely perfect amazing sweet", "loud terrible annoying awful"),
    "service": ("quick excellent pleasant great", "slow poor horrible bad"),
}

# Invented: no such drug, no such company.
CONDITIONS = (
    "fever|cough|asthma|headache|back pain|high blood pressure|infection|allergy|anxiety|diabetes|"
    "nausea|insomnia|rash|gout|migraine"
).split("|")
DRUG_NAMES = (
    "velorin tamoxil cardesin nubrixol pelantor zorimab haltrexin mirodan felsipram oxalene trivastin "
    "dolmarin kepralin lunesol brenavir sitarone gavilon rometin abricil quentamol lisomor vexatil "
    "corvadin emeprol norvexa palidrine suvoral tersiban ulmidine yastrin"
).split()
FORMS = "tablet syrup injection cream spray".split()
TIMES = ["once", "twice", "three times"]
# drug | condition | form | times a day
DRUGS = [
    (drug, CONDITIONS[i % 15], FORMS[i * 7 % 5], TIMES[i * 5 % 3])
    for i, drug in enumerate(DRUG_NAMES)
]
COMPANIES = (
    "Acme Norvik Bluestone Hartwell Zenith Orion Kestrel Lumen Marlow Pinnacle Quartz Redwood Solara "
    "Titan Vertex Westbrook"
).split()

VOWEL_SOUND_EXCEPTIONS = ("uni", "use", "eu")


def a(noun):
    """The noun with its indefinite article."""
    vowel = noun[0] in "aeiou" and not noun.startswith(VOWEL_SOUND_EXCEPTIONS)
    return ("an " if vowel else "a ") + noun


_PLURALS = dict(IRREGULAR_PLURALS)


def plural(noun):
    """The plural of a noun: from the table of irregular ones, else by the spelling rules."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def _regular_nouns():
    nouns = [animal[0] for animal in ANIMALS]
    for category in "fruit vehicle tool instrument furniture garment flower".split():
        nouns += CATEGORIES[category]
    nouns += "book pen key road hand door window egg king queen star river bag ball bridge".split()
    skip = set(_PLURALS) | {"salmon", "pliers", "garlic", "corn"}
    return [n for n in dict.fromkeys(nouns) if n not in skip and not n.endswith(("s", "f"))]


# singular, plural
PLURALS = [(noun, plural(noun)) for noun in _regular_nouns()] + IRREGULAR_PLURALS
# word, category
CATEGORY_OF = [(word, name) for name, words in CATEGORIES.items() for word in words]

_FRENCH = {english: (french, gender) for english, french, gender in FRENCH_NOUNS}


def french_the(noun):
    """The French noun with its definite article; l' before a vowel or a mute h."""
    french, gender = _FRENCH[noun]
    if french[0] in "aeiouéèêœîh":
        return "l'" + french
    return ("le " if gender == "m" else "la ") + french


def french_a(noun):
    """The French noun with its indefinite article."""
    french, gender = _FRENCH[noun]
    return ("un " if gender == "m" else "une ") + french


def agree(adjective, noun):
    """The form of a French adjective (English, masculine, feminine) that goes with the noun."""
    return adjective[1] if _FRENCH[noun][1] == "m" else adjective[2]

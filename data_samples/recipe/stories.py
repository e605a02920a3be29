# ruff: noqa: E501  (templates and tables are easier to read on one line)
"""Plots of the short stories: each plot is a list of sentence templates (see `text.fill`).

Slots: $A and $B two people, $sa/$oa/$pa she/her/her or he/him/his for $A, $ga girl or boy, $t and $u
things, $c and $d colours, $f and $e food, $p and $q places, $x and $y hiding places, $z a pet with sound
$v, $K a country, $opening and $intro whole phrases.
"""

PLOTS = [
    [
        "$intro $A had $ac $t.",
        "{It was {a gift|a present} from $pa {mother|father|uncle|aunt|friend $B}.|$^sa "
        "loved the $t very much.|$^sa played with it every day.}",
        "$opening, the $t was {gone|missing|lost}.",
        "$A looked $x, but it was not there.",
        "{Then $sa|At last $sa|$A} looked $y. {There it was!|The $t was there!|And there was "
        "the $c $t!}",
        "$A was {very happy|so happy|glad} to {have|see|find} $pa $t again.",
    ],
    [
        "$opening, $A and $B went to the $p.",
        "{They wanted to play|They wanted to have fun|They liked to play there}.",
        "$A {found|saw} $ac $t {in the grass|on the ground|near a tree}.",
        "\"{Look at this|Look what I found|Is this your $t}?\" {said|asked} $A.",
        "{\"It is not mine,\" said $B.|$B shook $pb head.}",
        "{They gave the $t to {a teacher|an old woman|a policeman}.|They asked everyone in "
        "the $p.} {An old man|A little boy|A woman} {came and said, \"Thank you! That is my "
        "$t.\"|was looking for it and thanked them.}",
        "{They felt good because they had helped.|They were proud to be honest.}",
    ],
    [
        "$intro $^sa had a $z. The $z {was $c|had $c eyes|liked to sleep $x}.",
        "$opening, the $z {ran away|did not come home|was hungry|was not well}.",
        "$A {called the $z and looked everywhere|was sad and afraid|asked $B for help}.",
        "{In the evening|Later|After a long time}, $sa heard a sound. {The $z $v.|It was the "
        "$z!}",
        "The $z was $y. $A {took it home|gave it food and water|held it close}.",
        "{Now the $z is safe.|$A and the $z were happy again.|From that day, the $z stayed "
        "near $A.}",
    ],
    [
        "$opening, $A wanted to {make|bake|cook} $f.",
        "$^sa {went to the kitchen|asked $pa {mother|father|grandmother} for help|put on $ac "
        "apron}.",
        "{But there {was no milk|were no eggs|was no flour}.|But the oven was cold.|But $sa "
        "forgot the sugar.}",
        "So $A went to {the shop|the market|$B} {to get some|and asked for some}.",
        "{Then they mixed everything in a big bowl.|Then $sa worked for an hour.}",
        "{The $f smelled good.|The $f was ready at {five|six|seven} o'clock.} {Everyone ate "
        "and was happy.|$B said it was the best.|\"It is very good,\" said $B.}",
    ],
    [
        "$A and $B were friends. $A was {fast|slow|tall|strong|loud}, and $B was "
        "{small|quiet|clever|careful}.",
        "$opening, they had a race {to the $p|from the $p to the $q|around the $p}.",
        "$A ran {very fast|as fast as $sa could}. $B {fell down|was behind|was slow}.",
        "{$A stopped and helped $ob.|$A did not stop and won the race.|But $A got tired and "
        "$B won.}",
        "{\"Good race,\" said $B.|\"Thank you,\" said $B.|They both laughed.}",
        "{In the end, they walked home together.|They were still friends.|After that they "
        "drank some {water|milk|juice}.}",
    ],
    [
        "$intro $^sa was afraid of {the dark|dogs|water|storms|high places}.",
        "$opening, $A was in the $p with $B.",
        "{\"Do not be afraid,\" said $B.|$B held $pa hand.|\"I am here,\" said $B.}",
        "{Slowly, $A took one step.|$A closed $pa eyes and counted to ten.|$A took a deep "
        "breath.}",
        "{Nothing bad happened.|It was not so bad.|$^sa felt brave.}",
        "{Now $A is not afraid any more.|\"I did it!\" said $A.|$A smiled and went home.}",
    ],
    [
        "$opening, $A went to the market. $^sa had {five|six|seven|eight|nine|ten} coins.",
        "$^sa wanted to buy $ac $t and some $f.",
        "The $t cost {two|three|four} coins. {\"I will take it,\" said $A.|$A paid and put it "
        "in $pa bag.}",
        "{The $f was too expensive.|Then $sa bought the $f too.|But there was no more $f.}",
        "{On the way home|On the road}, $sa met $B. {$B was hungry, so $A shared $pa "
        "food.|They talked about the market.|$B had $ad $u.}",
        "{It was a good day.|$A was tired but happy.}",
    ],
    [
        "$opening, it {rained|snowed} all day. $A and $B stayed at home.",
        "{They were bored.|They did not know what to do.}",
        "\"Let us {make a $t|play a game|read a book|paint a picture}!\" said $A.",
        "{They took paper and {paint|pens|scissors}.|They sat near the fire.|They found $ac "
        "$t $x.}",
        "{They laughed and forgot the {rain|snow|weather}.|They played until dinner.}",
        "{Then the sun came out.|At night, they were tired.|Their mother gave them $f.}",
    ],
    [
        "$intro $^sa wanted to be {a doctor|a pilot|a teacher|an actor|a painter|a sailor|a "
        "scientist|a baker}.",
        "{Every day|Every evening}, $sa {read many books|worked hard|asked many "
        "questions|practiced in the $p}.",
        "{Some people laughed at $oa.|It was not easy.} But $A did not stop.",
        "{Many years later|After ten years|When $sa was older}, $A {got the job|was very "
        "good at it}.",
        "{$^pa family was proud.|$B was proud of $oa.|Everyone in the town knew $pa name.}",
    ],
    [
        "$opening, $A saw a {little|small|young} $z $x.",
        "The $z {was hurt|was cold and hungry|could not find its mother}.",
        "$A {gave it $f|put it in a warm box|took it to $B}.",
        "{\"Do not worry,\" said $A. \"I will help you.\"|$A stayed with the $z all night.}",
        "{After some days|The next morning|Soon}, the $z was well. It $v and "
        "{ran|went|hurried} to the $q.",
        "{$A was happy and a little sad.|$A waved and said goodbye.|The $z never forgot $A.}",
    ],
    [
        "$A broke {the $t|$pb $t|a window|the lamp} {by mistake|while playing in the house}.",
        "{It belonged to $B.|$^sa was afraid to tell $pa {mother|father}.}",
        "$A {hid it $x|did not say anything|felt bad all day}.",
        "{But a lie is heavy.|At night, $sa could not sleep.} {In the morning|The next day}, "
        "$A told the truth.",
        "\"{I am sorry|I am very sorry},\" said $A. {\"Thank you for telling me,\" said $B.|$B "
        "was not angry.}",
        "{Together they repaired it.|They fixed it with {glue|tape|a rope}.|$A felt much "
        "better.}",
    ],
    [
        "It was the birthday of $A. {$^sa was|Now $sa was} {five|six|seven|eight|nine|ten} "
        "years old.",
        "$B {gave $oa $ac $t|came with $ac $t}. {\"Happy birthday!\" said $B.|It was in a $d "
        "box.}",
        "{There was a big cake with candles.|They ate $f and $e.|Many friends came to the "
        "house.}",
        "{They sang and danced.|They played games in the $p.}",
        "{\"This is the best day,\" said $A.|$A thanked everyone.|In the evening, $A was tired "
        "but happy.}",
    ],
    [
        "$opening, $A planted a {seed|small tree|flower} {in the garden|near the "
        "house|behind the barn}.",
        "$^sa gave it water every {day|morning|evening}.",
        "{For a week|For many days}, nothing happened. {$A waited.|$B said, \"Wait and see.\"}",
        "{Then a small green leaf came up.|Then it began to grow.}",
        "{In summer|In spring|After some months}, {there was a $c flower|it was as tall as "
        "$A|it was full of fruit}.",
        "{\"It is beautiful,\" said $B.|$A was proud of it.}",
    ],
    [
        "$A {wrote a letter to|called|visited} $B, who lived {in $K|far away|in the "
        "city|near the sea}.",
        "\"{Dear $B, I|I} {miss you|hope you are well|have a new $z},\" {said|wrote} $A.",
        "$B {was happy to hear this|answered the next day|smiled}.",
        "{$B came by train.|$A went there by {bus|train|boat|plane}.|They planned to meet in "
        "{summer|winter|spring}.}",
        "{They walked to the $p and talked for hours.|They ate $f and laughed.|They looked "
        "at old pictures.}",
        "{Then it was time to go home.|\"Come again soon,\" said $B.}",
    ],
]

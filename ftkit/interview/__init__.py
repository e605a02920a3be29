"""Interview practice: `ft.drill()` in a notebook, `ftkit drill` in a terminal.

Each exercise has a core without a screen and two front ends:

    cards       session.Session       flashcards          terminal
    interview   mock.Talk             interview_widget    mock_terminal
    clinic      clinic_round.Round    clinic_widget       clinic_terminal

The content is in `bank.jsonl`, `rounds.jsonl`, `rubrics.jsonl`, `formulas.jsonl`, `clinic`,
`clinic_cases` and `proofs/`. `cards` keeps the reviews; `progress` sums up the course.
"""

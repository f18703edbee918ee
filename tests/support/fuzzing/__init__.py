"""Random sources as shops write them, and the judgement of a reader by the rows that were written.

    python -m tests.support.fuzzing replay SEED [--into FOLDER] [--command]     one source: its description, its files, the verdict
    python -m tests.support.fuzzing run SEED … or FIRST:END [--command]         many: a line of JSON each
    python -m tests.support.fuzzing table FILE                                  the tables of docs/data.md from a file of results

The truth is the generator's own rows. `confirm` has csv, json and pyarrow, told the true dialect, read every undamaged file again:
where they disagree, the generator is at fault. No module here knows how the product reads; `product.py` alone speaks to it.

rows.py writes rows, forms.py files of rows, damage.py faults, sources.py folders of files; verdict.py judges, tally.py counts;
honest.py is a right reader, which the judgement has to let pass.
"""

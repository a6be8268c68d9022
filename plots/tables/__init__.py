"""Tables of a run: means over seeds for readers and papers, and every record or line as tidy rows for other programs.

`show` is the door. `exports` are the files for programs. May import what plots may: judgement, records, errors, cell.
No torch.
"""

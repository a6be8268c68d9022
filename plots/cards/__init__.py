"""Study cards: the pages of published studies, whose tables and figures follow from the records beside them.

A page holds `<!-- table: NAME -->` and `<!-- end of table -->`; what stands between is generated (see `markers`). What
a table says is specified in `results/NAME/card.toml` (see `specification`), what README says of published claims in
`results/claims.toml` (see `fedfore.judgement.claims`). May import what plots may: judgement, records, errors, cell. No
torch.
"""

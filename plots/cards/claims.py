"""README's table of published claims: sentences of `results/claims.toml` whose numbers follow from records."""

from __future__ import annotations

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.plots.cards.archive import Archive
from fedfore.plots.cards.quantities import text
from fedfore.plots.cards.specification import Claim, read_claims
from fedfore.records.markup import markdown

CLAIMS = "claims.toml"


def claims_table(archive: Archive) -> str:
    """Return the claims with what was found and links to the cards. Raises ConfigError where one cannot be computed."""
    rows = []
    for claim in read_claims(archive.results / CLAIMS).claim:
        links = ", ".join(f"[{study}](results/{study}/README.md)" for study in claim.studies)
        rows.append([f"{claim.claim} ({claim.source})", _found(archive, claim), links])
    return markdown(pd.DataFrame(rows, columns=["published claim", "here", "evidence"]))


def _found(archive: Archive, claim: Claim) -> str:
    try:
        values = {name: text(archive, claim.studies[0], value) for name, value in claim.values.items()}
    except ConfigError as error:
        raise ConfigError(f'{CLAIMS}, "{claim.claim}": {str(error).rstrip(".")}.') from None
    try:
        return claim.here.format_map(values)
    except KeyError as error:
        raise ConfigError(f'{CLAIMS}, "{claim.claim}": there is no value "{error.args[0]}".') from None

"""What settings are called in legends."""

import pytest

from fedfore.plots.fields import field_label


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("params.num_perturbations", 100.0, "K=100"),
        ("params.adjust_every", 1.0, "mask stays"),
        ("params.adjust_every", 0.2, "adjust every=0.2"),
        ("params.sap_rate", 0.0, "without SAP"),
        ("params.sap_rate", 0.5, "0.5 of activations pruned"),
        ("params.sap_rate", 0.9, ""),
        ("params.sap_rate", None, ""),
        ("params.plain", False, "without plain"),
    ],
)
def test_a_setting_is_named_as_a_reader_would(column: str, value: object, expected: str) -> None:
    assert field_label(column, value) == expected

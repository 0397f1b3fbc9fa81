import pytest

from facedistill.errors import AssetError
from facedistill.runs.assembly import instantiate


def refuse(asset: str) -> None:
    raise AssetError(f"asset {asset}: cannot be had")


def test_a_users_mistake_inside_a_constructor_stays_one_sentence():
    with pytest.raises(AssetError) as caught:
        instantiate({"_target_": f"{__name__}.refuse", "asset": "weights"})
    assert str(caught.value) == "asset weights: cannot be had"

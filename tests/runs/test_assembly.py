import pytest

from facedistill.errors import AssetError
from facedistill.runs.assembly import instantiate
from facedistill.system.trust import admit

admit([__name__])


def refuse(asset: str) -> None:
    raise AssetError(f"asset {asset}: is not available")


def test_user_error_inside_a_constructor_is_not_wrapped():
    with pytest.raises(AssetError) as caught:
        instantiate({"_target_": f"{__name__}.refuse", "asset": "weights"})
    assert str(caught.value) == "asset weights: is not available"

from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from facedistill.data.augment import Augment
from facedistill.data.augmentation import PhotoAugment
from facedistill.data.cache.replay_pool import FacePool
from facedistill.data.module import FaceDataModule
from facedistill.data.sources.rendered import RenderedFaces
from facedistill.errors import UserError
from facedistill.models.generators.directions import Directions
from facedistill.models.latents import draw_latents

BATCH = 4


def _batch(source, number, **share):
    return source.finish(source.raw(number, batch_size=BATCH, **share))


def test_dynamic_alternates_fresh_and_resampled_faces_as_the_paper_does(tiny_generator):
    source = RenderedFaces(tiny_generator, seed=5, resampling="dynamic", spread="isotropic", rho=0.7)
    for pair in range(3):
        z = draw_latents(5, "fresh", pair * BATCH + torch.arange(BATCH), 8)
        fresh = _batch(source, 2 * pair)
        assert torch.equal(fresh.latents, tiny_generator.map(z))
        assert torch.equal(fresh.images, tiny_generator.render(fresh.latents))
        agreement = torch.tensor([-1.0, 0.0, 0.5, 1.0])
        source.observe(2 * pair, agreement)
        noise = draw_latents(5, "resample", pair * BATCH + torch.arange(BATCH), 8)
        expected = fresh.latents + ((agreement + 1) / 2 * 0.7)[:, None] * noise
        assert torch.allclose(_batch(source, 2 * pair + 1).latents, expected)


def test_an_own_augmentation_is_called_with_the_positions_of_its_images(tiny_generator):
    def darker(images, *, seed, step, samples):
        return images * samples.view(-1, 1, 1, 1) + seed + step

    source = RenderedFaces(tiny_generator, seed=5, resampling="static", augment=darker)
    plain = RenderedFaces(tiny_generator, seed=5, resampling="static")
    changed, images = (_batch(one, 1, rank=1, world_size=2).images for one in (source, plain))
    assert torch.equal(changed, images * torch.tensor([1.0, 3.0]).view(-1, 1, 1, 1) + 6)


def test_a_face_on_which_both_disagree_entirely_comes_back_unchanged(tiny_generator):
    source = RenderedFaces(tiny_generator, seed=5)
    fresh = _batch(source, 0)
    source.observe(0, -torch.ones(BATCH))
    assert torch.equal(_batch(source, 1).images, fresh.images)


def test_static_draws_a_fresh_batch_each_step(tiny_generator):
    source = RenderedFaces(tiny_generator, seed=5, resampling="static")
    latents = torch.cat([_batch(source, number).latents for number in range(3)])
    assert torch.equal(latents, tiny_generator.map(draw_latents(5, "fresh", torch.arange(3 * BATCH), 8)))


def test_the_stream_is_the_same_for_any_number_of_devices(tiny_generator):
    source = RenderedFaces(tiny_generator, seed=5, resampling="static")
    whole = _batch(source, 7).latents
    ranks = [_batch(source, 7, rank=rank, world_size=2).latents for rank in range(2)]
    assert torch.equal(torch.stack(ranks, 1).flatten(0, 1), whole)


@pytest.mark.parametrize(("resampling", "kinds"), [
    ("dynamic", ["fresh", "resampled", "replayed", "replayed", "replayed", "replayed"]),
    ("static", ["fresh", "replayed", "replayed"]),
])  # fmt: skip
def test_replay_follows_each_rendered_batch(tiny_generator, resampling, kinds):
    source = RenderedFaces(tiny_generator, seed=5, resampling=resampling, replay=2, pool_images=64)
    assert [source.step(number).kind for number in range(2 * len(kinds))] == kinds * 2
    rendered = sum(kind != "replayed" for kind in kinds)
    assert source.step(len(kinds)).rendered_before == rendered
    assert source.step(2 * len(kinds) - 1).rendered_before == 2 * rendered


def test_replayed_faces_are_faces_rendered_before(tiny_generator):
    source = RenderedFaces(tiny_generator, seed=5, resampling="static", replay=1, pool_images=6)
    shown = []
    for number in range(0, 8, 2):
        shown += list(_batch(source, number).images)
        for image in _batch(source, number + 1).images:
            near = [(image - other).abs().max() for other in shown[-6:]]  # the pool keeps the last six
            assert min(near) <= 1.01 / 255


def test_pool_survives_an_interruption(tiny_generator, tmp_path):
    def source():
        made = RenderedFaces(tiny_generator, seed=5, resampling="static", replay=1, pool_images=32)
        made.pool.open(tmp_path / "faces.pool")
        return made

    first = source()
    for number in range(5):
        _batch(first, number)
    expected = _batch(first, 5).images
    assert torch.equal(_batch(source(), 5).images, expected)
    first.pool.close()
    assert not (tmp_path / "faces.pool").exists()


def test_augment_is_a_function_of_seed_step_and_sample():
    images = torch.rand(6, 3, 112, 112) * 2 - 1
    augment = Augment(scale=0.05, rotation_deg=3, shift=0.02, contrast=0.1, brightness=0.1, gray=0.2)
    whole = augment(images, seed=1, step=9, samples=torch.arange(6))
    half = augment(images[1::2], seed=1, step=9, samples=torch.arange(1, 6, 2))
    assert torch.allclose(whole[1::2], half, atol=1e-5)
    assert whole.abs().max() <= 1
    assert not torch.allclose(whole, augment(images, seed=1, step=10, samples=torch.arange(6)))


def test_flip_mirrors_about_half_of_the_faces():
    images = torch.rand(200, 3, 8, 8)
    changed = Augment(flip=0.5)(images, seed=0, step=0, samples=torch.arange(200))
    mirrored = (changed == images.flip(-1)).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_a_killed_run_leaves_the_faces_that_its_checkpoint_needs(tiny_generator, tmp_path):
    """The pool wraps; the run is killed up to `capacity` faces after the checkpoint."""

    def source():
        made = RenderedFaces(tiny_generator, seed=5, resampling="static", replay=1, pool_images=8)
        made.pool.open(tmp_path / "faces.pool")
        return made

    first = source()
    for number in range(9):  # 5 x 4 faces rendered, the last 8 of them in use
        _batch(first, number)
    expected = _batch(first, 9).images
    for number in range(10, 14):  # and 8 more before the kill
        _batch(first, number)
    assert torch.equal(_batch(source(), 9).images, expected)


def test_a_pool_that_should_be_there_is_asked_for(tiny_generator, tmp_path):
    with pytest.raises(UserError, match=r"faces.pool is missing or of another size"):
        FacePool(8).open(tmp_path / "faces.pool", resumes=True)


def test_a_pool_is_made_when_the_processes_have_met(tiny_generator, tmp_path):
    """Not when the parts are built: with `force` the main process may clear the folder after that."""
    source = RenderedFaces(tiny_generator, seed=0, replay=1, pool_images=4)
    data = FaceDataModule(source, torch.zeros(0), batch_size=4, images=8, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    data.trainer = SimpleNamespace(global_rank=1, world_size=2)
    data.setup("fit")
    assert [file.name for file in tmp_path.iterdir()] == ["faces.1.pool"]


def _turning(generator, **settings):
    directions = Directions(torch.arange(8.0), torch.zeros(8), (1.0, 1.0), 100, 1.0)
    return RenderedFaces(generator, seed=5, yaw=30.0, directions=directions, **settings)


def test_a_share_of_the_faces_is_turned_by_an_angle_of_their_own(tiny_generator):
    source, plain = _turning(tiny_generator, yaw_share=0.4), RenderedFaces(tiny_generator, seed=5)
    degrees = source.raw(0, batch_size=400)["degrees"]
    assert degrees.abs().max() <= 30
    assert abs((degrees != 0).float().mean() - 0.4) < 0.08
    assert abs(degrees[degrees != 0].mean()) < 5
    for number in range(4):
        turned, straight = _batch(source, number), _batch(plain, number)
        step = source.raw(number, batch_size=BATCH)["degrees"][:, None] * torch.arange(8.0)
        assert torch.allclose(turned.latents, straight.latents + step)
        for one in (source, plain):
            one.observe(number, torch.zeros(BATCH))
    halves = [source.raw(2, batch_size=BATCH, rank=rank, world_size=2)["degrees"] for rank in range(2)]
    assert torch.equal(torch.stack(halves, 1).flatten(), source.raw(2, batch_size=BATCH)["degrees"])


def test_a_step_reads_nothing_from_the_device(tiny_generator):
    """The meta device has no values: whatever would read one raises."""
    source = _turning(
        tiny_generator.to("meta"), resampling="static", augment=PhotoAugment(jpeg=0.5, flip=0.5)
    )
    raw = move_data_to_device(source.raw(0, batch_size=BATCH), torch.device("meta"))
    assert source.finish(raw).images.device.type == "meta"

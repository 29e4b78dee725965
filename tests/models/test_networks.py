import pytest
import torch

from paretrim.errors import InvalidRecipe
from paretrim.models.catalog import NETWORKS
from paretrim.models.resnet_cifar import CifarResNet
from paretrim.models.speed_cnn import CORRELATION, whitening_filters
from paretrim.models.wide_resnet import wide_resnet

PARAMETERS = {
    ("resnet18", 10): 11_173_962,
    ("resnet18", 100): 11_220_132,
    ("resnet18_imagenet", 10): 11_181_642,
    ("resnet18_imagenet", 1000): 11_689_512,
    ("resnet50", 10): 23_520_842,
    ("resnet50_imagenet", 1000): 25_557_032,
    ("resnet20", 10): 269_722,
    ("resnet32", 10): 464_154,
    ("resnet56", 10): 853_018,
    ("wide_resnet_16_2", 100): 703_284,
    ("wide_resnet_28_10", 10): 36_479_194,
    ("wide_resnet_28_10", 100): 36_536_884,
    ("wide_resnet_40_2", 100): 2_255_156,
    ("speed_cnn", 10): 1_972_802,
    ("vgg16_bn", 10): 14_728_266,
    ("vgg11_bn_quarter", 100): 591_396,
    ("vgg16_bn_quarter", 100): 935_796,
    ("vgg11_224", 1000): 132_863_336,
    ("vgg11_bn_224", 1000): 132_868_840,
    ("vgg13_224", 1000): 133_047_848,
    ("vgg13_bn_224", 1000): 133_053_736,
    ("vgg16_224", 1000): 138_357_544,
    ("vgg16_bn_224", 1000): 138_365_992,
    ("vgg19_224", 1000): 143_667_240,
    ("vgg19_bn_224", 1000): 143_678_248,
}
ONE_CHANNEL = {"lenet_300_100": 266_610, "lenet_5": 431_080}
TORCHVISION = {
    name: name.removesuffix("_imagenet").removesuffix("_224") for name in NETWORKS if name.endswith(("_imagenet", "_224"))
}
SMALL = [name for name in NETWORKS if name not in TORCHVISION]


@pytest.mark.parametrize(("name", "classes"), PARAMETERS)
def test_parameter_counts_are_the_published_ones(name, classes):
    with torch.device("meta"):
        network = NETWORKS[name](classes=classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name, classes]


@pytest.mark.parametrize("name", ONE_CHANNEL)
def test_parameter_counts_of_networks_for_digits_are_the_published_ones(name):
    with torch.device("meta"):
        network = NETWORKS[name](classes=10, channels=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == ONE_CHANNEL[name]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_become_logits(name, channels):
    side = 224 if name in TORCHVISION else 32
    with torch.device("meta"):
        logits = NETWORKS[name](classes=7, channels=channels)(torch.empty(2, channels, side, side))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("name", [name for name in SMALL if not name.startswith(("vgg", "speed"))])
@pytest.mark.parametrize("side", [8, 9])
def test_tiny_images_fit(name, side):
    with torch.device("meta"):
        assert NETWORKS[name](classes=10, channels=1)(torch.empty(3, 1, side, side)).shape == (3, 10)


@pytest.mark.parametrize("name", ["resnet20", "wide_resnet_16_2", "vgg11_bn", "resnet50"])
def test_fresh_logits_are_finite_and_not_constant(name):
    torch.manual_seed(0)
    network = NETWORKS[name](classes=10).eval()
    with torch.no_grad():
        logits = network(torch.randn(4, 3, 32, 32))
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_convolutions_start_with_he_variance():
    torch.manual_seed(0)
    weight = NETWORKS["resnet20"](classes=10).layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)


@pytest.mark.parametrize("name", TORCHVISION)
def test_keys_and_shapes_are_torchvisions(torchvision_models, name):
    with torch.device("meta"):
        ours = NETWORKS[name](classes=1000).state_dict()
        theirs = getattr(torchvision_models, TORCHVISION[name])(init_weights=False) if "vgg" in name else None
        theirs = (theirs or getattr(torchvision_models, TORCHVISION[name])()).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize("name", ["resnet18_imagenet", "resnet50_imagenet"])
def test_outputs_are_torchvisions(torchvision_models, name):
    torch.manual_seed(1)
    theirs = getattr(torchvision_models, TORCHVISION[name])(num_classes=5).eval()
    ours = NETWORKS[name](classes=5).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs(images))


def test_plain_shortcut_is_every_second_pixel_between_zero_channels():
    block = CifarResNet(1, classes=2, channels=1).layer2[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 16, 8, 8)
    with torch.no_grad():
        y = block(x)
    assert y.shape == (1, 32, 4, 4)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_plain_shortcut_exports_as_slice_and_pad():
    network = CifarResNet(1, classes=2, channels=1).eval()
    program = torch.export.export(network, (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    operations = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert any("slice" in name for name in operations)
    assert any("pad" in name for name in operations)


def test_wide_resnet_takes_any_depth_and_width():
    with torch.device("meta"):
        network = wide_resnet(10, 3, classes=4, channels=1)
    assert [len(stage) for stage in (network.layer1, network.layer2, network.layer3)] == [1, 1, 1]
    assert network.fc.in_features == 192


@pytest.mark.parametrize("depth", [4, 9, 27, 0, -2])
def test_wide_resnet_refuses_other_depths(depth):
    with pytest.raises(InvalidRecipe, match=f"cannot have depth {depth}: allowed are 10, 16, 22, 28"):
        wide_resnet(depth, 2, classes=10)


def test_wide_resnet_refuses_width_0():
    with pytest.raises(InvalidRecipe, match="cannot have width 0: it multiplies 16 channels"):
        wide_resnet(16, 0, classes=10)


def test_catalog_cannot_be_changed():
    with pytest.raises(TypeError, match="does not support item assignment"):
        NETWORKS["mine"] = NETWORKS["resnet18"]


def _patches_of_a_markov_process(channels, count):
    """Patches [count, channels, 2, 2] of unit variance whose correlation falls by CORRELATION a step along every axis."""
    factors = [
        torch.linalg.cholesky(CORRELATION ** (torch.arange(n)[:, None] - torch.arange(n)).abs().double())
        for n in (channels, 2, 2)
    ]
    noise = torch.randn(count, channels, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.einsum("cx,hy,wz,nxyz->nchw", *factors, noise).float()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_layer_of_the_speed_cnn_whitens_natural_images(channels):
    patches = _patches_of_a_markov_process(channels, 200_000)
    outputs = torch.nn.functional.conv2d(patches, whitening_filters(channels)).flatten(1)
    half = outputs.shape[1] // 2
    torch.testing.assert_close(outputs[:, half:], -outputs[:, :half])
    correlation = torch.corrcoef(outputs[:, :half].T)
    # cosines are the exact components of two neighbours and nearly those of three channels
    assert (correlation - torch.eye(half)).abs().max() < (0.02 if channels == 1 else 0.1)
    # each component has variance 1, but for those that are almost noise, which are not blown up
    assert outputs.var(0).max() < 1.02
    assert outputs[:, 0].var().item() == pytest.approx(1, abs=0.02)
    assert outputs.var(0).min() > 0.3


def test_a_quarter_has_a_quarter_of_the_channels():
    whole, quarter = (NETWORKS[name](classes=100).features for name in ("vgg11_bn", "vgg11_bn_quarter"))
    assert [4 * len(one.weight) for one in quarter if hasattr(one, "weight")] == [
        len(one.weight) for one in whole if hasattr(one, "weight")
    ]

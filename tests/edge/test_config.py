"""The configuration: the example that ships, defaults, relative paths, and refusals that name the key."""

from pathlib import Path

import pytest

from edge.config import Config, PricingConfig, ShopConfig, load
from edge.errors import ConfigError
from edge.pos.topics import gln_of_store

GLN = gln_of_store(5)
EXAMPLE = Path(__file__).parents[2] / "systemd" / "pomona.toml"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pomona.toml"
    path.write_text(text)
    return path


def test_a_gln_is_enough(tmp_path: Path) -> None:
    config = load(write(tmp_path, f'[shop]\ngln = "{GLN}"\n'))
    assert config == Config(ShopConfig(GLN))
    assert config.state == Path("/var/lib/pomona")
    assert config.pricing.modes == {}
    assert config.pricing.guard.index_cap == 0.005


def test_the_example_that_ships_is_a_configuration() -> None:
    config = load(EXAMPLE)
    assert config.state.is_absolute()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = f'[shop]\ngln = "{GLN}"\nstate_dir = "s"\nitems = "i.csv"\n[tills]\npassword_file = "/abs"\n'
    config = load(write(tmp_path, text + '[pricing]\npolicy = "none"\n'))
    assert config.state == tmp_path / "s"
    assert config.shop.items == str(tmp_path / "i.csv")
    assert config.tills.password_file == "/abs"
    assert config.pricing.policy == "none"
    assert load(write(tmp_path, text + '[pricing]\npolicy = "p.onnx"\n')).pricing.policy == str(tmp_path / "p.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "shop: this section is required"),
        ("shop = 3\n", "shop: this section is required"),
        ("[shop]\n", "shop.gln: is required"),
        ('[shop]\ngln = "123"\n', "123"),
        (f'[shop]\ngln = "{GLN}"\ncurrency = "euro"\n', "euro"),
        (f'[shop]\ngln = "{GLN}"\nname = "x"\n', "shop.name: unknown key"),
        (f'[shop]\ngln = "{GLN}"\n[shelf]\n', "shelf: unknown key"),
        (f'[shop]\ngln = "{GLN}"\n[pricing]\nfirst_weekday = 7\n', "pricing: first_weekday 7"),
        (f'[shop]\ngln = "{GLN}"\n[pricing]\nhistory_weeks = 1\n', "pricing: history_weeks 1"),
        (f'[shop]\ngln = "{GLN}"\n[pricing]\nclock_closes_hours = 25\n', "pricing: clock_closes_hours 25"),
        (f'[shop]\ngln = "{GLN}"\n[pricing]\nstep_log = 0.5\n', "pricing: step_probability is at most"),
        (f'[shop]\ngln = "{GLN}"\n[pricing]\nstep_log = "a"\n', "pricing.step_log: must be a number"),
        (f'[shop]\ngln = "{GLN}"\n[pricing.modes]\nmilk = 3\n', "pricing.modes.milk: must be a string"),
        (f'[shop]\ngln = "{GLN}"\n[pricing.modes]\nmilk = "on"\n', "pricing: mode of 'milk'"),
        (f'[shop]\ngln = "{GLN}"\n[pricing.guard]\nindex_cap = 0.01\n', "guard.index_cap"),
        (f'[shop]\ngln = "{GLN}"\n[pricing.guard]\nbend = 0.1\n', "pricing.guard.bend: unknown key"),
        (f'[shop]\ngln = "{GLN}"\n[tills]\nhost = "example.org"\n', "example.org"),
        ("not toml", "pomona.toml"),
    ],
)
def test_refusals_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["off", "shadow", "live"])
def test_every_mode_is_accepted(mode: str) -> None:
    assert PricingConfig(modes={"": mode}).modes == {"": mode}

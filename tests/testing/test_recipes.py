"""``check --recipe``: a recipe that keeps its promises, and ones that don't."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

TOY = Path(__file__).parents[1] / "training" / "toy.py"
FORGETFUL = (
    TOY.read_text()
    .replace('"toy"', '"forgetful"')
    .replace("self.average = deepcopy(self.encoder.layer).requires_grad_(False)", "self.seen = []")
    .replace(
        'drift = (predicted - self.average(batch["values"])).abs().mean()',
        """self.seen.append(1)
        loss = drift = predicted.square().mean() if len(self.seen) > 1 else loss""",
    )
    .replace(
        "for own, other in zip(self.average.parameters(), self.encoder.layer.parameters(), strict=True):",
        "return",
    )
    .replace("            own.lerp_(other, 0.5)", "")
)


def findings(name, file):
    arguments = ["check", "encoder", name, "--recipe", "--plugin", str(file), "--format", "json"]
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, {each["promise"]: each for each in json.loads(result.output)["findings"]}


def test_a_recipe_that_keeps_its_promises():
    code, found = findings("toy", TOY)
    assert code == 0
    assert [each["status"] for each in found.values()] == ["held"] * 3


@pytest.mark.parametrize("promise", ["Goes on after a stop as if there had been none"])
def test_state_that_no_checkpoint_holds_is_found(tmp_path, promise):
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    code, found = findings("forgetful", tmp_path / "forgetful.py")
    assert code == 1
    assert found[promise]["status"] == "broken" and "came out otherwise" in found[promise]["reason"]

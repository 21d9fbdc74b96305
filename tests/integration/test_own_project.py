"""README's "Write your own handler in five minutes", done as it says: a project of somebody's own, on the wheel.

Its files are the README's blocks, its commands the README's lines, in a virtual environment that has what the suite's
has, but of Handoff only the wheel that pip builds here: what an installed one lacks is missed here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import processes
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
SECTION = (
    (ROOT / "README.md").read_text().partition("## Write your own handler in five minutes")[2].partition("\n## ")[0]
)
KEPT = re.compile(r"\bkept\b.*\bprospect\b")  # the handler's line; the banner says of its data that it is kept
PATIENCE = 60.0  # seconds; only a hang takes so long

pytestmark = pytest.mark.server


def files() -> dict[str, str]:
    return dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", SECTION, re.DOTALL))


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


class Project:
    """An empty folder, with a virtual environment and a home in which the checkout is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        (home := folder / "home").mkdir()
        (home / "handoff").symlink_to(ROOT)
        environment = folder / "venv"
        venv.create(environment, with_pip=False)
        self.site = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        _lend(folder / "lent", self.site)
        own = {
            k: v for k, v in os.environ.items() if not k.startswith(("HANDOFF_", "INBOX_", "PYTEST_", "PYTHON", "PIP_"))
        }
        self.env = own | {
            "HOME": str(home),
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(environment),
            "HANDOFF_BIND": f"127.0.0.1:{free_port()}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say: none, so with the hatchling that is here
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_CACHE_DIR": "1",
        }

    def run(self, command: str) -> str:
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def _lend(lent: Path, site: Path) -> None:
    """Everything that is installed here, but for Handoff, to be seen there too."""
    lent.mkdir()
    for found in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "handoff" not in found.name and found.suffix != ".pth":
            (lent / found.name).symlink_to(found)
    (site / "lent.pth").write_text(f"{lent}\n")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_readme_s_project_works_as_it_says(project: Project) -> None:
    install, test, dev, *look = commands()
    for name, text in files().items():
        (project.folder / name).write_text(text)

    project.run(install)
    where = project.run("python -c 'import worker; print(worker.__file__)'").strip()
    assert Path(where) == project.site / "worker" / "__init__.py", "it is not the wheel that is tested"

    assert re.search(r"\b3 passed\b", project.run(test))

    with processes.running(["/bin/sh", "-c", f"exec env {dev}"], project.env, project.folder) as running:
        running.wait_for_output("Handoff is up.", PATIENCE)
        project.run(look[0])
        processes.until(lambda: KEPT.search(running.output), "the worker calls the handler", PATIENCE)
        for command in look[1:-1]:
            project.run(command)
        assert re.fullmatch(r"\{'.+\}\n", project.run(look[-1]))
        assert running.stop(PATIENCE) == 0, running.output


def test_the_section_is_read() -> None:
    assert list(files()) == ["owners.py", "test_owners.py"]
    assert [command.split()[0] for command in commands()] == [
        "python",
        "python",
        "HANDOFF_HANDLERS=owners",
        "handoff",
        "handoff",
        "python",
    ]

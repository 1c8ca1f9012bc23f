"""What setup.cfg cannot say: stages/ and configs/ travel in the package; an index gets the README with whole links.

`PROJECT_URL=https://github.com/OWNER/NAME python -m build` names the repository; a build on GitHub knows it.
"""

import os
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ON_GITHUB = "/".join(os.environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"))
URL = os.environ.get("PROJECT_URL") or ON_GITHUB.strip("/")


class BuildWithProject(build_py):
    """Adds stages/ and configs/ as kuleshov/project/."""

    def run(self) -> None:
        super().run()
        for name in () if self.editable_mode else ("configs", "stages"):
            target = Path(self.build_lib, "kuleshov", "project", name)
            # what an earlier build left
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(name, target)


def whole_links(text: str) -> str:
    """A page whose links to files and images of the repository begin with its address."""
    text = re.sub(r"(!\[[^]]*\]\()(?!\w+:)", rf"\1{URL}/raw/main/", text)
    return re.sub(r"(\]\()(?!\w+:|#)", rf"\1{URL}/blob/main/", text)


readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
pages = {"Source": URL, "Changelog": f"{URL}/blob/main/CHANGELOG.md", "Documentation": f"{URL}/tree/main/docs"}
setup(
    cmdclass={"build_py": BuildWithProject},
    long_description=whole_links(readme) if URL else readme,
    project_urls=pages if URL else {},
)

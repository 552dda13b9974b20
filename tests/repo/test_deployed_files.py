"""Only the product is deployed: .funcignore leaves out everything else, and nothing of it."""

from pathlib import Path

from tests.repo.git_files import listed, repository_files

DEPLOYED = {
    "function_app.py",
    "host.json",
    "requirements.txt",
    "common",
    "consumer",
    "ops",
    "producer",
}


def left_out() -> set[Path]:
    """Return the files that .funcignore names; it is written in git's own syntax."""
    return set(listed("--ignored", "--exclude-from=.funcignore"))


def test_only_the_product_is_deployed() -> None:
    """Of the repository's files, those that .funcignore leaves are the product's."""
    deployed = set(repository_files()) - left_out()
    assert not {path for path in deployed if path.parts[0] not in DEPLOYED}


def test_the_product_is_deployed_whole() -> None:
    """Of the product's files, .funcignore names none."""
    product = {path for path in repository_files() if path.parts[0] in DEPLOYED}
    assert product
    assert not product & left_out()

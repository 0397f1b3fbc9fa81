"""Ships the top-level folder conf inside the wheel, as facedistill/conf; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["facedistill*"]), "facedistill.conf"],
    package_dir={"facedistill.conf": "conf"},
    package_data={
        "facedistill": ["py.typed"],
        "facedistill.conf": ["**/*.yaml"],
        "facedistill.models.generators": ["*.cpp"],
        "facedistill.reporting": ["*/templates/*"],
        "facedistill.demo": ["templates/*"],
    },
)

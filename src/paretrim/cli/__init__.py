"""The command ``paretrim``."""

from paretrim.cli.main import main as main

"""Run the command line: `./athanor`."""

from deploy.local.cli import main

main()

"""Run the command line: `./athanor`; only `doctor` runs where no package is installed."""

import sys

if sys.argv[1:] in (["doctor"], ["doctor", "--json"]):
    from deploy.local import doctor
    from deploy.local.home import home_folder

    sys.exit(doctor.run(home_folder(), as_json="--json" in sys.argv))

try:
    from deploy.local.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"Unavailable: {error.name} is not installed: make setup; ./athanor doctor says more")

main()

"""``python -m survey_scan``."""

from survey_scan.cli import main

if __name__ == "__main__":
    main(prog_name="survey_scan")

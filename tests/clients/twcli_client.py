"""turbowarp-cli, which runs a project in a browser and answers its questions:

    twcli_client.py URL PROJECT.sb3 ANSWER ...
"""

import sys

from playwright.sync_api import BrowserType
from twcli.run import run

# It would download a browser of its own.
launch = BrowserType.launch
BrowserType.launch = lambda kind, **options: launch(
    kind, executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"], **options
)
url, project, *answers = sys.argv[1:]
with open(project, "rb") as file:
    run(file.read(), answers, cloud_host=url, project_id="60917032", username="twcli")

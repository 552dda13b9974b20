"""An app that cannot be imported: on Azure all its functions would vanish without an error."""

import os

SETTING = os.environ["A_SETTING_NOBODY_SET"]

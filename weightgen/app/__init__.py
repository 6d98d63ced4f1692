"""A page in the browser that shows a pipeline at work: `weightgen app`.

One file per tab; `page` puts them together and serves them. What a tab computes lies in files without Gradio.
"""

import os

# Before Gradio is imported: nothing is reported to anyone.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

"""The HTTP service: a predictor behind an API and a web page."""

from query2label.extras import import_extra

for _module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    import_extra(_module, extra="serve", purpose="Serving")

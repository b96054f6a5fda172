"""The pages for a browser: `/` asks the service, `/docs` shows its contract in Swagger UI."""

from importlib.metadata import distribution
from pathlib import Path

from lib.serve.handlers import Handler

HERE = Path(__file__).parent
SWAGGER = Path(distribution("flask-swagger-ui").locate_file("flask_swagger_ui/dist"))  # without loading Flask
FILES = {  # address -> file, type
    "/": (HERE / "page.html", "text/html"),
    "/docs": (HERE / "docs.html", "text/html"),
    "/docs/swagger-ui.css": (SWAGGER / "swagger-ui.css", "text/css"),
    "/docs/swagger-ui-bundle.js": (SWAGGER / "swagger-ui-bundle.js", "text/javascript"),
}
# A browser loads nothing from elsewhere for these pages, and no other site can show them in a frame.
POLICY = "default-src 'self' 'unsafe-inline' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class PageHandler(Handler):
    """A file for a browser. It holds no data, so it needs no token; the requests that it sends do."""

    async def answer(self) -> None:
        file, kind = FILES[self.name]
        self.set_header("Content-Type", f"{kind}; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        self.finish(file.read_bytes())

    def _authorized(self) -> bool:
        return True

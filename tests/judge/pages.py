"""What tests of pages share: a reader of HTML that insists on nesting."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_alone(page: Page, text: str) -> None:
    """No script, no request: every address is data inside the page; light, dark and small screens are served."""
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert not [a for tag, attrs in page.tags for a in attrs if a.startswith("on")]
    addresses = [
        value for _, attrs in page.tags for key, value in attrs.items() if key in ("src", "href", "xlink:href")
    ]
    assert all(value and value.startswith("data:image/jpeg;base64,") for value in addresses)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags

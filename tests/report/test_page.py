"""The page holds all that it needs, and what it holds can't end it."""

import re

from tomostream.report.page import built_page, render_page


def test_page_is_self_contained_and_its_values_cannot_end_it():
    page = render_page("a <b>", {"title": "</script><script>alert(1)</script>", "tomograms": []}, [None, {"x": "<!-- <script>"}])
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", page)
    assert "alert(1)</script>" not in page
    assert page.count("</script>") == 3
    assert "<!--" not in page
    assert "a &lt;b&gt;" in page
    assert 'id="tomogram-1"' in page
    assert 'id="tomogram-0"' not in page


def test_equal_results_give_equal_bytes():
    assert render_page("a", {"x": [1.5]}, []) == render_page("a", {"x": [1.5]}, [])


def test_built_page_asks_for_nothing():
    script, style = built_page()
    assert "fetch(" not in script
    assert "XMLHttpRequest" not in script
    assert "@import" not in style
    assert "url(" not in style

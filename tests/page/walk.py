"""Walks the web page in a browser: each step is a function, and says what it found. Whatever the page asks of another
host, whatever script of a payload runs, and whatever the browser forbids it, is a failure."""

import argparse
import json
import pathlib
import re
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from server import Busy, Server

HERE = pathlib.Path(__file__).parent
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
# Long enough for a machine that does much else.
PATIENCE_MS = 60_000


class Walk:
    def __init__(self, browser, server, shots):
        self.browser, self.server, self.shots = browser, server, shots
        self.foreign, self.errors = [], []

    def page(self, viewport=DESK, **more):
        context = self.browser.new_context(viewport=viewport, permissions=[], **more)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.note(request.url))
        page.on("console", lambda line: self.errors.append(line.text) if "Content Security" in line.text else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: self.errors.append(dialog.message) or dialog.dismiss())
        page.expose_function("ran", lambda *_: self.errors.append("a payload ran"))
        page.goto(self.server.url)
        page.wait_for_selector("nav .new")
        return page

    def note(self, url):
        if not url.startswith((self.server.url, "blob:", "data:")):
            self.foreign.append(url)

    def shot(self, page, name):
        page.screenshot(path=str(self.shots / f"{name}.png"))

    def accessible(self, page, name):
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        wrong = found.response["violations"]
        told = [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in wrong]
        assert not wrong, f"{name}: {told}"

    def end(self):
        assert not self.foreign, f"asked elsewhere: {self.foreign}"
        assert not self.errors, self.errors


def say(page, text, wait=True):
    page.fill("#say", text)
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_have_value("")
    if wait:
        done(page)


def until(page, holds):
    """The page's rules forbid the browser's own way of waiting, which makes code of a text."""
    began = time.monotonic()
    while not page.evaluate(holds):
        assert time.monotonic() - began < PATIENCE_MS / 1000, f"does not come true: {holds}"
        page.wait_for_timeout(50)


def done(page):
    page.wait_for_selector(".round:not(.stop)")
    page.wait_for_selector(".of-assistant .foot")


def slow(page, seconds=0.15, answer="word " * 400):
    """Answers come from here, piece by piece, so that a step has time: the page cannot tell."""
    page.evaluate(
        """([text, wait]) => {
          const real = window.fetch;
          window.unslow = () => (window.fetch = real);
          window.fetch = (path, init) => {
            if (path !== '/v1/chat/completions') return real(path, init);
            const words = text.match(/\\S+\\s*/g);
            const encoder = new TextEncoder();
            const body = new ReadableStream({
              async start(out) {
                init.signal?.addEventListener('abort', () => out.error(new DOMException('', 'AbortError')));
                for (const word of words) {
                  const event = { choices: [{ delta: { content: word } }] };
                  try { out.enqueue(encoder.encode(`data: ${JSON.stringify(event)}\\n\\n`)); } catch { return; }
                  await new Promise((go) => setTimeout(go, wait * 1000));
                }
                out.enqueue(encoder.encode('data: [DONE]\\n\\n'));
                out.close();
              },
            });
            return Promise.resolve(new Response(body, { headers: { 'Content-Type': 'text/event-stream' } }));
          };
        }""",
        [answer, seconds],
    )


def first_chat(walk):
    page = walk.page()
    page.wait_for_selector(".ideas button:not([disabled])")
    walk.shot(page, "01-empty")
    walk.accessible(page, "empty")
    say(page, "Who are you?")
    expect(page.locator(".of-assistant .prose")).not_to_be_empty()
    assert "tokens" in page.locator(".of-assistant .meta").inner_text()
    assert page.locator("meter").evaluate("meter => meter.value") > 0
    expect(page.locator("nav .chat")).to_have_text("Who are you?")
    walk.shot(page, "02-first")
    walk.accessible(page, "first chat")
    page.reload()
    expect(page.locator(".of-assistant .prose")).not_to_be_empty()
    return page


def stop(walk, page):
    slow(page)
    say(page, "Count for long.", wait=False)
    page.wait_for_selector(".round.stop")
    until(page, "document.querySelector('.of-assistant:last-child .prose')?.innerText.length > 30")
    walk.shot(page, "03-streaming")
    page.keyboard.press("Escape")
    expect(page.locator(".broke").last).to_contain_text("Stopped")
    page.evaluate("unslow()")
    done(page)


def branch(walk, page):
    page.locator(".of-assistant").last.get_by_label("Answer again").click()
    expect(page.locator(".siblings").last).to_contain_text("2/2")
    done(page)
    page.locator(".of-assistant").last.get_by_label("Branch before").click()
    expect(page.locator(".siblings").last).to_contain_text("1/2")
    page.locator(".of-user").last.get_by_label("Edit as a branch").click()
    page.locator(".edit textarea").fill("Another question?")
    page.get_by_text("Send as a branch").click()
    expect(page.locator(".of-user").last.locator(".siblings")).to_contain_text("2/2")
    done(page)
    walk.shot(page, "04-branch")
    page.locator(".of-user").last.get_by_label("Branch before").click()
    expect(page.locator(".of-user").last).to_contain_text("Count for long.")
    page.reload()
    expect(page.locator(".of-user").last).to_contain_text("Count for long.")


def compare(walk, page):
    page.get_by_label("New chat").or_(page.locator("nav .new")).first.click()
    page.locator("header").get_by_label("Two models side by side").click()
    say(page, "What is a token?")
    expect(page.locator(".half")).to_have_count(2)
    expect(page.locator(".half .of-assistant .foot")).to_have_count(2)
    say(page, "And a model?")
    expect(page.locator(".half .of-assistant .foot")).to_have_count(4)
    walk.shot(page, "05-compare")
    walk.accessible(page, "compare")
    page.locator(".half").last.get_by_text("Keep this one").click()
    expect(page.locator(".half")).to_have_count(0)
    expect(page.locator(".of-assistant")).to_have_count(2)


def reload_in_midstream(walk, page):
    page.locator("nav .new").click()
    slow(page)
    say(page, "A long story, please.", wait=False)
    until(page, "document.querySelector('.of-assistant .prose')?.innerText.length > 60")
    page.fill("#say", "what I was about to say")
    page.reload()
    expect(page.locator(".of-user")).to_contain_text("A long story, please.")
    expect(page.locator(".of-assistant .prose")).to_contain_text("word word")
    expect(page.locator(".broke")).to_contain_text("The page was left")
    expect(page.locator("#say")).to_have_value("what I was about to say")
    walk.shot(page, "06-reloaded")
    page.fill("#say", "")
    page.locator(".broke button").click()
    expect(page.locator(".siblings")).to_contain_text("2/2")
    done(page)


def too_many(walk, page):
    busy = Busy(walk.server)
    # Between two texts of the others the slot is free for a moment, and whoever asks just then has it.
    for _ in range(5):
        page.locator("nav .new").click()
        expect(page.locator(".of-assistant")).to_have_count(0)
        page.fill("#say", "Is there room?")
        page.keyboard.press("Enter")
        expect(page.locator(".trouble.busy, .of-assistant .foot").first).to_be_visible()
        if page.locator(".trouble.busy").count():
            break
    expect(page.locator(".trouble.busy")).to_contain_text("Trying again in")
    expect(page.locator(".of-user")).to_contain_text("Is there room?")
    walk.shot(page, "07-busy")
    busy.leave()
    expect(page.locator(".of-assistant .foot")).to_be_visible()
    expect(page.locator(".trouble")).to_have_count(0)


def server_restart(walk, page):
    page.locator("nav .new").click()
    walk.server.kill()
    page.fill("#say", "Are you there?")
    page.keyboard.press("Enter")
    expect(page.locator(".trouble.gone")).to_contain_text("cannot be reached")
    expect(page.locator("#say")).to_have_value("Are you there?")
    walk.shot(page, "08-gone")
    walk.server.start()
    began = time.monotonic()
    expect(page.locator(".trouble")).to_have_count(0)
    took = time.monotonic() - began
    assert took < 5, f"the page noticed the server after {took:.1f} s"
    page.keyboard.press("Enter")
    done(page)
    expect(page.locator(".of-user")).to_contain_text("Are you there?")


def typed_at_once(walk, page):
    """Before the page has drawn the new chat, the text of it is typed."""
    page.evaluate(
        """() => {
          const say = document.getElementById('say');
          document.querySelector('nav .new').click();
          say.value = 'Said at once';
          say.dispatchEvent(new Event('input', { bubbles: true }));
        }"""
    )
    page.wait_for_timeout(300)
    expect(page.locator("#say")).to_have_value("Said at once")
    page.locator("#say").press("Enter")
    done(page)
    expect(page.locator(".of-user")).to_have_count(1)
    expect(page.locator(".of-user")).to_contain_text("Said at once")


def cut_stream(walk, page):
    page.locator("nav .new").click()
    say(page, "Now and then?")
    page.evaluate(
        """() => {
          const real = window.fetch;
          window.fetch = (path, init) => {
            if (path !== '/v1/chat/completions') return real(path, init);
            window.fetch = real;
            const text = 'data: {"choices": [{"delta": {"content": "half an ans"}}]}\\n\\n';
            return Promise.resolve(new Response(new Blob([text]).stream()));
          };
        }"""
    )
    page.fill("#say", "And then?")
    page.keyboard.press("Enter")
    expect(page.locator(".broke")).to_contain_text("broke off")
    expect(page.locator(".of-assistant").last).to_contain_text("half an ans")
    page.locator(".broke button").click()
    expect(page.locator(".siblings")).to_contain_text("2/2")
    done(page)


def finding_and_carrying(walk, page):
    page.keyboard.press("Control+k")
    page.keyboard.type("long story")
    # Each letter is a search; all hits are of the whole text only at the end.
    expect(page.locator(".hit").filter(has_not_text="long story")).to_have_count(0)
    walk.shot(page, "09-found")
    page.locator(".hit", has_text="long story").last.click()
    # The chat that was open may still be there for a moment.
    expect(page.locator(".of-user").filter(has_text="A long story")).to_have_count(1)
    # The message found takes the focus a frame later, and would take the keys meant for the field below.
    expect(page.locator(".message:focus")).to_have_count(1)
    page.locator("#search").fill("")
    expect(page.locator("nav .chat").first).to_be_visible()
    count = page.locator("nav .chat").count()
    with page.expect_download() as download:
        page.get_by_text("Export all").click()
    file = download.value.path()
    assert len(json.loads(pathlib.Path(file).read_text())["chats"]) == count
    page.set_input_files("input[type=file]", files=[{"name": "a.json", "mimeType": "application/json", "buffer": pathlib.Path(file).read_bytes()}])
    expect(page.locator(".trouble.note")).to_contain_text("were imported")
    expect(page.locator("nav .chat")).to_have_count(2 * count)
    row = page.locator("nav li").first
    row.hover()
    row.locator(".dots").click()
    row.get_by_text("Delete").click()
    walk.accessible(page, "delete")
    page.locator("dialog").get_by_text("Delete", exact=True).click()
    expect(page.locator("nav .chat")).to_have_count(2 * count - 1)


def settings(walk, page):
    page.locator("nav .new").click()
    page.locator("header").get_by_label("Settings").click()
    field = page.locator("#set-temperature")
    field.fill("200")
    expect(page.locator("#set-temperature-now")).to_contain_text("from 0 to 100")
    field.fill("0")
    field.blur()
    expect(page.locator("#set-temperature-now")).to_contain_text("0, yours")
    page.fill("#set-system-prompt", "Answer briefly.")
    page.locator("#set-system-prompt").blur()
    walk.shot(page, "10-settings")
    walk.accessible(page, "settings")
    with page.expect_request("**/v1/chat/completions") as asked:
        say(page, "What is Pasture?")
    body = asked.value.post_data_json
    assert body["temperature"] == 0 and body["messages"][0] == {"role": "system", "content": "Answer briefly."}, body
    page.fill("#set-json-schema", "{")
    expect(page.locator("#set-json-schema-help")).to_contain_text("No JSON yet")
    page.fill("#set-json-schema", "")
    page.keyboard.press("Escape")


def tools_and_thoughts(walk, page):
    page.locator("nav .new").click()
    events = [
        {"choices": [{"delta": {"reasoning_content": "I should ask."}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": "{\"place\":"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "\"Bern\"}"}}]}, "finish_reason": "tool_calls"}]},
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=text, content_type="text/event-stream"))
    say(page, "How is the weather?")
    expect(page.locator(".call")).to_contain_text('"place": "Bern"')
    expect(page.locator(".reasoning")).not_to_have_attribute("open", "")
    page.unroute("**/v1/chat/completions")
    walk.shot(page, "11-call")
    walk.accessible(page, "call")
    asked = []
    page.route("**/v1/chat/completions", lambda route: asked.append(route.request.post_data_json) or route.fulfill(
        body='data: {"choices": [{"delta": {"content": "Sunny."}}]}\n\ndata: [DONE]\n\n', content_type="text/event-stream"))
    page.locator(".results textarea").fill('{"sun": true}')
    page.get_by_text("Give the result").click()
    expect(page.locator(".of-assistant").last).to_contain_text("Sunny.")
    page.unroute("**/v1/chat/completions")
    tool = asked[0]["messages"][-1]
    assert tool == {"role": "tool", "tool_call_id": "c1", "content": '{"sun": true}'}, tool


def rich_text(walk, page):
    answer = (HERE / "answer.md").read_text()
    say_answer(page, answer, "Show all that you can.")
    expect(page.locator(".code .c-keyword").first).to_be_visible()
    expect(page.locator(".formula math").first).to_be_visible()
    page.locator(".code").first.get_by_label("Copy this code").click()
    expect(page.locator(".code button").first).to_have_text("Copied")
    page.locator(".thread").evaluate("box => (box.scrollTop = 0)")
    page.wait_for_timeout(200)
    walk.shot(page, "12-text")
    walk.accessible(page, "text")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(200)
    walk.shot(page, "13-dark")
    walk.accessible(page, "dark")
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(200)
    walk.shot(page, "14-phone-dark")
    page.emulate_media(color_scheme="light")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], f"a phone's page is {wide} px wide"
    page.get_by_label("List of chats", exact=True).click()
    page.wait_for_timeout(300)
    walk.shot(page, "15-phone-list")
    walk.accessible(page, "phone")
    page.locator("nav").get_by_label("Close the list of chats").click()
    page.set_viewport_size(DESK)


def say_answer(page, answer, question):
    event = {"choices": [{"delta": {"content": answer}, "finish_reason": "stop"}]}
    text = f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=text, content_type="text/event-stream"))
    page.locator("nav .new").click()
    say(page, question)
    page.unroute("**/v1/chat/completions")


def keyboard_only(walk):
    page = walk.page()
    page.wait_for_selector(".ideas button:not([disabled])")
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    walk.shot(page, "16-help")
    walk.accessible(page, "help")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("Hello there")
    page.keyboard.press("Enter")
    done(page)
    page.keyboard.press("Tab")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    expect(page.locator(".siblings")).to_contain_text("2/2")
    done(page)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("k")
    page.keyboard.press("[")
    expect(page.locator(".siblings")).to_contain_text("1/2")
    page.keyboard.press("s")
    expect(page.locator(".settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".settings")).to_have_count(0)
    page.keyboard.press("e")
    expect(page.locator(".edit textarea")).to_be_focused()
    page.keyboard.press("Escape")
    # Whatever has the focus shows it, and nothing holds it.
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("(at => at ? at.outerHTML.slice(0, 80) : '')(document.activeElement)"))
        style = page.evaluate("(at => at && at !== document.body ? getComputedStyle(at).outlineStyle : 'solid')(document.activeElement)")
        assert style != "none", f"no sign of the focus: {page.evaluate('document.activeElement.outerHTML')[:120]}"
    assert len(seen) > 12, seen
    page.context.close()


def payloads(walk, page):
    lines = [line.replace("\\n", "\n") for line in (HERE / "payloads.txt").read_text().splitlines() if line]
    assert len(lines) >= 60
    tree = []
    for at, line in enumerate(lines):
        parent = 2 * at if at else None
        tree.append({"id": 2 * at + 1, "parent": parent, "role": "user", "content": line})
        tree.append({"id": 2 * at + 2, "parent": 2 * at + 1, "role": "assistant", "content": f"{line}\n\nand {line}", "more": {"model": line[:200], "reasoning": line, "calls": [{"id": "x", "name": line[:60], "arguments": line}]}})
    titles = [{"title": line[:200], "settings": {"system": line, "schema": line}, "tree": tree if at == 0 else [], "leaf": 2 * len(lines) if at == 0 else None} for at, line in enumerate(lines)]
    ids = walk.server.post("/chats/import", {"pasture_chats": 1, "chats": titles})["ids"]
    page.goto(f"{walk.server.url}/#/chat/{ids[0]}")
    page.reload()
    expect(page.locator(".message").first).to_be_visible()
    for _ in range(6):
        page.locator(".thread").evaluate("box => (box.scrollTop = 0)")
        page.wait_for_timeout(250)
    expect(page.locator(".message")).to_have_count(2 * len(lines))
    for details in page.locator("details").all():
        details.evaluate("one => (one.open = true)")
    page.locator("header").get_by_label("Settings").click()
    page.wait_for_timeout(500)
    walk.shot(page, "17-payloads")
    found = page.evaluate(
        """() => {
          const wrong = [];
          const allowed = /^(https?:)/;
          for (const one of document.querySelectorAll('#page *')) {
            const name = one.localName;
            if (['script', 'iframe', 'object', 'embed', 'img', 'video', 'audio', 'style', 'link', 'base', 'meta', 'animate', 'template'].includes(name)) wrong.push(name);
            for (const attribute of one.attributes) {
              if (attribute.name.startsWith('on')) wrong.push(`${name} ${attribute.name}`);
              if (['src', 'href', 'xlink:href', 'action', 'formaction', 'data', 'srcdoc'].includes(attribute.name) && !allowed.test(attribute.value) && !one.classList.contains('skip')) wrong.push(`${name} ${attribute.name}=${attribute.value}`);
              if (attribute.name === 'style' && /url/.test(attribute.value)) wrong.push(`${name} style=${attribute.value}`);
            }
          }
          return wrong;
        }"""
    )
    assert not found, found
    for link in page.locator(".prose span, .prose a").all()[:200]:
        link.dispatch_event("click") if link.evaluate("one => one.localName !== 'a'") else None
    name = "<img src=x onerror=ran(1)>.json"
    page.set_input_files("input[type=file]", files=[{"name": name, "mimeType": "application/json", "buffer": b"{"}])
    expect(page.locator(".trouble")).to_contain_text("is no JSON")
    page.fill("#search", "<img src=x")
    expect(page.locator(".hit").first).to_be_visible()
    walk.shot(page, "18-payloads-found")
    page.fill("#search", "")
    page.keyboard.press("Escape")
    model = json.dumps({"object": "list", "data": [{"id": line, "parent": line} for line in lines]})
    page.route("**/v1/models", lambda route: route.fulfill(body=model, content_type="application/json"))
    page.reload()
    expect(page.locator("header option").nth(60)).to_be_attached()
    page.unroute("**/v1/models")
    for line in lines[::6]:
        say_answer(page, line, line)
    page.wait_for_timeout(300)


def sizes(walk, page):
    text = "Sheep graze on the meadow, and **every** sheep has `wool`.\n\n"
    tree = [{"id": at + 1, "parent": at or None, "role": "assistant" if at % 2 else "user", "content": text * (1 + at % 5)} for at in range(10_000)]
    chat = {"title": "Ten thousand", "tree": tree, "leaf": 10_000}
    long = text * (1_000_000 // len(text) + 1)
    one = {"title": "A million", "tree": [{"id": 1, "role": "user", "content": "?"}, {"id": 2, "parent": 1, "role": "assistant", "content": long}], "leaf": 2}
    ids = walk.server.post("/chats/import", {"pasture_chats": 1, "chats": [chat, one]})["ids"]
    page.goto(f"{walk.server.url}/#/chat/{ids[0]}")
    page.reload()
    expect(page.locator(".message").first).to_be_visible()
    frames = page.evaluate(
        """() => new Promise((done) => {
          const box = document.querySelector('.thread');
          const began = performance.now();
          let frames = 0;
          const step = () => {
            frames += 1;
            box.scrollTop -= 60;
            if (performance.now() - began < 2000) requestAnimationFrame(step);
            else done((frames / (performance.now() - began)) * 1000);
          };
          requestAnimationFrame(step);
        })"""
    )
    began = time.monotonic()
    page.evaluate(f"location.hash = '#/chat/{ids[1]}'")
    until(page, "document.querySelector('.of-assistant .prose')?.childElementCount >= 100")
    took = time.monotonic() - began
    print(f"  {frames:.0f} frames a second in 10,000 messages; the first screens of 1 MB after {took:.2f} s")


def with_key(arguments, browser, shots):
    server = Server(arguments.program, f"{arguments.folder}/keyed", key="a-key-of-some-length")
    try:
        walk = Walk(browser, server, shots)
        page = walk.page()
        expect(page.locator("dialog")).to_contain_text("asks for a key")
        walk.shot(page, "19-key")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("dialog")).to_contain_text("does not know that key")
        page.fill("#key", "a-key-of-some-length")
        page.keyboard.press("Enter")
        page.wait_for_selector(".ideas button:not([disabled])")
        say(page, "Who are you?")
        kept = page.evaluate("[sessionStorage.length, JSON.stringify(localStorage), document.cookie, location.href]")
        assert kept[0] >= 1 and "a-key" not in json.dumps(kept[1:]), kept
        page.evaluate("sessionStorage.setItem('pasture-key', 'gone')")
        page.fill("#say", "Kept until the key is right")
        page.keyboard.press("Enter")
        expect(page.locator("dialog")).to_be_visible()
        expect(page.locator("#say")).to_have_value("Kept until the key is right")
        walk.end()
    finally:
        server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--browser", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--only", help="run steps whose names match")
    arguments = parser.parse_args()
    shots = pathlib.Path(arguments.folder) / "shots"
    shots.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=PATIENCE_MS)
    home = f"{arguments.folder}/home-{int(time.time())}"
    server = Server(arguments.program, home, "--slots", "2", "--queue", "0")
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=arguments.browser, args=["--no-sandbox"])
            walk = Walk(browser, server, shots)
            page = first_chat(walk)
            print("ok: first chat")
            steps = [stop, branch, compare, reload_in_midstream, server_restart, typed_at_once, cut_stream,
                     finding_and_carrying, settings, tools_and_thoughts, rich_text, payloads, sizes]
            for step in steps:
                if arguments.only and not re.search(arguments.only, step.__name__):
                    continue
                step(walk, page)
                print(f"ok: {step.__name__.replace('_', ' ')}", flush=True)
            keyboard_only(walk)
            print("ok: keyboard only")
            walk.end()
            with_key(arguments, browser, shots)
            print("ok: with a key")
            busy_server(arguments, browser, shots)
            print("ok: too many")
    finally:
        server.kill()
    print(f"screenshots: {shots}")


def busy_server(arguments, browser, shots):
    flags = ("--slots", "1", "--queue", "0")
    server = Server(arguments.program, f"{arguments.folder}/busy", *flags)
    try:
        walk = Walk(browser, server, shots)
        too_many(walk, walk.page())
        walk.end()
    finally:
        server.kill()


if __name__ == "__main__":
    main()

// Does one task on the page, in a world that the page cannot see. Gives "V" and the value's JSON, or "F" and the failure's.
// Until its deadline it looks again with every frame.
(async (task, probe) => {
  class Failure {
    constructor(word, message) { Object.assign(this, { word, message }); }
  }
  const fail = (word, message) => { throw new Failure(word, message); };
  // A page that is not shown has no frames.
  const frame = () => new Promise((resolve) => {
    const timer = setTimeout(resolve, 200);
    requestAnimationFrame(() => { clearTimeout(timer); resolve(); });
  });
  const query = (root, selector) => {
    try {
      return [...root.querySelectorAll(selector)];
    } catch (error) {
      return fail('invalid_selector', `${selector}: ${error.message}`);
    }
  };
  const pierce = (root, selector) => {
    let scopes = [root];
    const parts = selector.split('>>>').map((part) => part.trim());
    for (const [i, part] of parts.entries()) {
      const found = scopes.flatMap((scope) => query(scope, part));
      if (i === parts.length - 1) return found;
      scopes = found.map((element) => element.shadowRoot).filter(Boolean);
    }
    return [];
  };
  // The document of a target and where its viewport is in that of the page.
  const scope = (target) => {
    if (!target.frame) return { root: document, x: 0, y: 0 };
    const [holder] = pierce(document, target.frame);
    if (!holder) return null;
    const root = holder.contentDocument;
    if (!root) fail('frame_not_reachable', `${target.frame} is no frame of the page's own origin`);
    const box = holder.getBoundingClientRect();
    return { root, x: box.left + holder.clientLeft, y: box.top + holder.clientTop };
  };
  const all = (target) => {
    const where = scope(target);
    return where ? pierce(where.root, target.selector) : [];
  };
  const one = (target) => all(target)[target.nth ?? 0] ?? null;
  const visible = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && box.height > 0 && element.checkVisibility({ visibilityProperty: true });
  };
  const enabled = (element) => !element.matches(':disabled') && !element.closest('[aria-disabled="true" i]');
  const editable = (element) => element.isContentEditable
    || (['INPUT', 'TEXTAREA'].includes(element.tagName) && !element.readOnly);
  const text = (element) => (element.innerText ?? element.textContent ?? '').trim();
  const named = (target) => {
    const nth = target.nth === undefined || target.nth === null ? '' : ` (match ${target.nth})`;
    return target.frame ? `${target.selector}${nth} in ${target.frame}` : `${target.selector}${nth}`;
  };
  // Looks until `look` gives no failure; it gives { value } or { word, message }.
  const until = async (look) => {
    for (;;) {
      const seen = await look();
      if (!seen.word) return seen.value;
      if (Date.now() >= task.deadline) fail(seen.word, seen.message);
      await frame();
    }
  };
  const missing = (target) => ({ word: 'element_not_found', message: `no element matches ${named(target)}` });
  const holds = (holder, inner) => {
    for (let node = inner; node; node = node.parentNode ?? node.host) if (node === holder) return true;
    return false;
  };
  const hit = (root, x, y) => {
    let found = root.elementFromPoint(x, y);
    while (found?.shadowRoot) {
      const inner = found.shadowRoot.elementFromPoint(x, y);
      if (!inner || inner === found) break;
      found = inner;
    }
    return found;
  };
  const described = (element) => {
    const id = element.id ? `#${element.id}` : '';
    return `<${element.localName}${id}>`;
  };
  // Whether the element can be acted on, by mouse unless task.focus.
  const actionable = async (target) => {
    const element = one(target);
    if (!element) return missing(target);
    if (!visible(element)) return { word: 'not_visible', message: `${named(target)} is not visible` };
    if (!enabled(element)) return { word: 'not_enabled', message: `${named(target)} is disabled` };
    if (task.editable && !editable(element)) {
      return { word: 'not_editable', message: `${named(target)} takes no text` };
    }
    if (task.focus) {
      element.focus();
      return { value: {} };
    }
    const view = element.ownerDocument.defaultView;
    const before = element.getBoundingClientRect();
    await frame();
    const box = element.getBoundingClientRect();
    const same = ['left', 'top', 'width', 'height'].every((side) => before[side] === box[side]);
    if (!same || !element.isConnected) return { word: 'not_stable', message: `${named(target)} moves` };
    const at = task.position ?? { x: box.width / 2, y: box.height / 2 };
    const where = scope(target);
    if (!where) return missing(target);
    const [x, y] = [Math.floor(box.left + at.x), Math.floor(box.top + at.y)];
    const [left, top] = [x + where.x, y + where.y];
    const inView = x >= 0 && y >= 0 && x < view.innerWidth && y < view.innerHeight
      && left >= 0 && top >= 0 && left < innerWidth && top < innerHeight;
    const met = inView ? hit(where.root, x, y) : null;
    if (met && (holds(element, met) || met.closest?.('label')?.control === element)) {
      return { value: { x: left, y: top } };
    }
    element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
    const other = met ? `${described(met)} is over it` : 'the point is out of view';
    return { word: 'obscured', message: `${named(target)} cannot be reached by the mouse: ${other}` };
  };
  const states = {
    attached: (target) => (one(target) ? {} : missing(target)),
    visible: (target) => {
      const element = one(target);
      if (!element) return missing(target);
      return visible(element) ? {} : { word: 'not_visible', message: `${named(target)} is not visible` };
    },
    hidden: (target) => {
      const element = one(target);
      return element && visible(element) ? { word: 'not_hidden', message: `${named(target)} is visible` } : {};
    },
    detached: (target) => (one(target) ? { word: 'not_detached', message: `${named(target)} is there` } : {}),
  };
  const place = (more) => {
    const { scrollX: x, scrollY: y } = window;
    return { x, y, height: document.scrollingElement?.scrollHeight ?? 0, steps: 1, complete: true, ...more };
  };
  const matches = (match, found) => {
    if ('equals' in match) return found === match.equals;
    if ('contains' in match) return found.includes(match.contains);
    try {
      return new RegExp(match.matches, 'u').test(found);
    } catch (error) {
      return fail('invalid_pattern', error.message);
    }
  };
  const cut = (found) => (found.length > 500 ? `${found.slice(0, 500)}…` : found);
  const wrong = (expected, found) => ({
    word: 'assertion_failed',
    message: `expected ${expected}, found ${found}`,
  });
  const compare = (what, match, found) => (matches(match, found)
    ? {}
    : wrong(`${what} that ${Object.keys(match)[0]} ${JSON.stringify(Object.values(match)[0])}`, JSON.stringify(cut(found))));
  const checks = {
    count: ({ target, count }) => {
      const found = all(target).length;
      return found === count ? {} : wrong(`${count} of ${named(target)}`, found);
    },
    visible: ({ target }) => {
      const seen = states.visible(target);
      return seen.word ? wrong(`${named(target)} to be visible`, seen.message) : {};
    },
    text: ({ target, match }) => {
      const element = one(target);
      if (!element) return wrong(`a text of ${named(target)}`, 'no such element');
      return compare(`a text of ${named(target)}`, match, text(element));
    },
    url: ({ match }) => compare('a URL', match, location.href),
    title: ({ match }) => compare('a title', match, document.title),
  };
  const read = (field, element) => {
    if (field.kind === 'text') return text(element);
    if (field.kind === 'html') return element.outerHTML;
    if (field.kind === 'attribute') return element.getAttribute(field.key);
    const value = element[field.key];
    return value === undefined ? null : value;
  };
  const tasks = {
    locate: () => until(() => actionable(task.target)),
    // Where the mouse meets a link to the URL that leads there in the page's own tab; null where it meets none.
    link: async () => {
      const fits = (a) => a.href === task.url && visible(a) && !a.hasAttribute('download')
        && ['', '_self', '_parent', '_top'].includes(a.target);
      for (const element of [...document.querySelectorAll('a[href]')].filter(fits).slice(0, 5)) {
        element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
        await frame();
        // Of a link over several lines the middle may be outside.
        const [box] = element.getClientRects();
        if (!box) continue;
        const [x, y] = [Math.floor(box.left + box.width / 2), Math.floor(box.top + box.height / 2)];
        const met = hit(document, x, y);
        if (met && holds(element, met)) return { x, y };
      }
      return null;
    },
    state: async () => { await until(() => states[task.state](task.target)); },
    // Where an element is in the document of the page.
    box: () => until(async () => {
      const seen = states.visible(task.target);
      if (seen.word) return seen;
      const element = one(task.target);
      element.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' });
      const before = element.getBoundingClientRect();
      await frame();
      const box = element.getBoundingClientRect();
      const same = ['left', 'top', 'width', 'height'].every((side) => before[side] === box[side]);
      if (!same || !element.isConnected) return { word: 'not_stable', message: `${named(task.target)} moves` };
      const where = scope(task.target);
      if (!where) return missing(task.target);
      const [x, y] = [box.left + where.x + scrollX, box.top + where.y + scrollY];
      return { value: { x, y, width: box.width, height: box.height } };
    }),
    extent: () => {
      const [root, body] = [document.documentElement, document.body];
      const most = (name) => Math.max(root?.[name] ?? 0, body?.[name] ?? 0);
      return { width: most('scrollWidth'), height: most('scrollHeight') };
    },
    select: () => until(() => {
      const element = one(task.target);
      if (!element) return missing(task.target);
      if (element.tagName !== 'SELECT') return fail('not_a_select', `${named(task.target)} is no select element`);
      if (!visible(element)) return { word: 'not_visible', message: `${named(task.target)} is not visible` };
      if (!enabled(element)) return { word: 'not_enabled', message: `${named(task.target)} is disabled` };
      const wanted = [...element.options].find((option, i) => {
        if ('index' in task.choice) return i === task.choice.index;
        return 'value' in task.choice ? option.value === task.choice.value : option.text === task.choice.label;
      });
      const sought = JSON.stringify(task.choice);
      if (!wanted) return { word: 'option_not_found', message: `${named(task.target)} has no option ${sought}` };
      if (wanted.disabled) return { word: 'not_enabled', message: `the option ${sought} is disabled` };
      element.focus();
      wanted.selected = true;
      const { Event } = element.ownerDocument.defaultView;
      element.dispatchEvent(new Event('input', { bubbles: true, composed: true }));
      element.dispatchEvent(new Event('change', { bubbles: true }));
      return {};
    }),
    fileInput: () => until(() => {
      const element = one(task.target);
      if (!element) return missing(task.target);
      if (element.tagName !== 'INPUT' || element.type !== 'file') {
        return fail('not_a_file_input', `${named(task.target)} is no input element of type file`);
      }
      if (task.files > 1 && !element.multiple) {
        return fail('not_multiple', `${named(task.target)} takes one file, not ${task.files}`);
      }
      if (!enabled(element)) return { word: 'not_enabled', message: `${named(task.target)} is disabled` };
      globalThis.sondeFileInput = element;
      return {};
    }),
    emptied: () => {
      const element = globalThis.sondeFileInput;
      if (element.files.length > 0) {
        element.value = '';
        for (const type of ['input', 'change']) element.dispatchEvent(new Event(type, { bubbles: true }));
      }
      return [];
    },
    chosenFiles: () => [...globalThis.sondeFileInput.files].map(({ name, type, size }) => ({ name, type, size })),
    viewport: () => [innerWidth, innerHeight],
    scrollBy: async () => {
      scrollBy({ left: task.x, top: task.y, behavior: 'instant' });
      await frame();
      return place();
    },
    scrollTo: async () => {
      await until(() => {
        const element = one(task.target);
        if (!element) return missing(task.target);
        element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
        return {};
      });
      await frame();
      return place();
    },
    scrollToBottom: async () => {
      const root = document.scrollingElement ?? document.documentElement;
      let steps = 0;
      // Where it ends is known when neither place nor height has changed for 500 ms.
      for (let quiet = Date.now(); steps < task.steps && Date.now() - quiet < 500;) {
        if (Date.now() >= task.deadline) fail('timeout', `the page still grew after ${steps} steps`);
        const [y, height] = [scrollY, root.scrollHeight];
        scrollBy({ left: 0, top: Math.max(1, innerHeight * 0.9), behavior: 'instant' });
        await frame();
        if (scrollY !== y) steps += 1;
        if (scrollY !== y || root.scrollHeight !== height) quiet = Date.now();
      }
      return place({ steps, complete: steps < task.steps });
    },
    extract: () => Object.fromEntries(task.fields.map((field) => {
      if (!field.all) {
        const element = one(field.target);
        return [field.name, element ? read(field, element) : null];
      }
      const found = all(field.target);
      if (found.length > 10000) fail('result_too_large', `${field.name}: ${found.length} matches, at most 10000`);
      return [field.name, found.map((element) => read(field, element))];
    })),
    truthy: () => until(async () => {
      const found = await probe();
      const shown = found === undefined ? 'undefined' : cut(JSON.stringify(found) ?? String(found));
      return found ? {} : wrong('a value that is truthy', shown);
    }),
    assert: async () => { await until(() => checks[task.check](task)); },
  };
  try {
    const value = JSON.stringify((await tasks[task.task]()) ?? null);
    const bytes = new TextEncoder().encode(value).length;
    if (task.cap && bytes > task.cap) fail('result_too_large', `${bytes} bytes of JSON, at most ${task.cap}`);
    return `V${value}`;
  } catch (error) {
    if (error instanceof Failure) return `F${JSON.stringify(error)}`;
    return `F${JSON.stringify({ word: 'script_error', message: String(error) })}`;
  }
})

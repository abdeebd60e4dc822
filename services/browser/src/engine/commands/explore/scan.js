// Finds what a user can click, aims at one of it, or waits until the page is quiet; in a world that the page cannot see.
// Gives "V" and the value's JSON, or "F" and the failure's.
(async (task) => {
  const MOST = 500;
  const TEXT = 80;
  const LEAST_SIDE = 4;
  const LEAST_AREA = 20;
  const ROLES = ['button', 'link', 'tab', 'menuitem', 'menuitemcheckbox', 'menuitemradio', 'switch', 'checkbox',
    'radio', 'option', 'treeitem'];
  const INPUTS = ['button', 'submit', 'reset', 'image', 'checkbox', 'radio'];
  const HANDLERS = '[onclick], [onmousedown], [onpointerdown], [jsaction], [ng-click], [data-ng-click]';

  // A page that is not shown has no frames.
  const frame = () => new Promise((resolve) => {
    const timer = setTimeout(resolve, 200);
    requestAnimationFrame(() => { clearTimeout(timer); resolve(); });
  });
  const fail = (word, message) => `F${JSON.stringify({ word, message })}`;
  const parent = (node) => node.parentElement ?? node.getRootNode().host ?? null;
  const ancestor = (element, fits) => {
    for (let node = element; node; node = parent(node)) if (fits(node)) return node;
    return null;
  };
  const collapse = (text) => [...(text ?? '').replace(/\s+/gu, ' ').trim()].slice(0, TEXT).join('');
  const attribute = (element, name) => element.getAttribute(name) ?? '';

  // Every element of the document, its open shadow roots and its frames of the same origin, with where the viewport of
  // its document is in that of the page.
  const everything = function* everything(root, x, y, holders) {
    for (const element of root.querySelectorAll('*')) {
      yield { element, x, y, holders };
      if (element.shadowRoot) yield* everything(element.shadowRoot, x, y, holders);
      if (element.localName === 'iframe' || element.localName === 'frame') {
        let inner = null;
        try { inner = element.contentDocument; } catch { /* of another origin */ }
        if (!inner) continue;
        const box = element.getBoundingClientRect();
        const [left, top] = [x + box.left + element.clientLeft, y + box.top + element.clientTop];
        yield* everything(inner, left, top, [...holders, element]);
      }
    }
  };

  const native = (element) => {
    switch (element.localName) {
      case 'a': case 'area': return element.hasAttribute('href');
      case 'button': case 'summary': return true;
      case 'input': return INPUTS.includes(element.type);
      default: return false;
    }
  };
  const pointer = (element) => {
    const own = element.ownerDocument.defaultView.getComputedStyle(element).cursor;
    if (own !== 'pointer') return false;
    const above = parent(element);
    return !above || above.ownerDocument.defaultView.getComputedStyle(above).cursor !== 'pointer';
  };
  const reason = (element) => {
    if (native(element)) return 'native';
    if (ROLES.includes(attribute(element, 'role').toLowerCase())) return 'role';
    if (element.matches(HANDLERS)) return 'handler';
    return pointer(element) ? 'cursor' : null;
  };

  const usable = ({ element, holders }) => {
    if (element.matches(':disabled')) return false;
    if (ancestor(element, (node) => node.inert || attribute(node, 'aria-hidden') === 'true'
      || attribute(node, 'aria-disabled').toLowerCase() === 'true')) return false;
    const shown = { opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true };
    if (![element, ...holders].every((node) => node.checkVisibility(shown))) return false;
    if (element.ownerDocument.defaultView.getComputedStyle(element).pointerEvents === 'none') return false;
    const box = element.getBoundingClientRect();
    if (box.width < LEAST_SIDE || box.height < LEAST_SIDE || box.width * box.height < LEAST_AREA) return false;
    // Moved out of the document, where no scrolling leads.
    const view = element.ownerDocument.defaultView;
    return box.right + view.scrollX > 0 && box.bottom + view.scrollY > 0;
  };

  const holds = (holder, inner) => Boolean(ancestor(inner, (node) => node === holder));
  const deepest = (root, x, y) => {
    let found = root.elementFromPoint(x, y);
    while (found?.shadowRoot) {
      const inner = found.shadowRoot.elementFromPoint(x, y);
      if (!inner || inner === found) break;
      found = inner;
    }
    return found;
  };
  // What is met at a point of the page's viewport, element of a frame or not.
  const met = (x, y) => {
    let [root, left, top] = [document, x, y];
    for (;;) {
      const found = deepest(root, left, top);
      let inner = null;
      try { inner = found?.contentDocument; } catch { /* of another origin */ }
      if (!inner) return found;
      const box = found.getBoundingClientRect();
      [root, left, top] = [inner, left - box.left - found.clientLeft, top - box.top - found.clientTop];
    }
  };
  const points = (box) => {
    const inset = (low, size) => [low + size / 2, low + size * 0.2, low + size * 0.8];
    const [xs, ys] = [inset(box.left, box.width), inset(box.top, box.height)];
    return [[xs[0], ys[0]], [xs[1], ys[1]], [xs[2], ys[1]], [xs[1], ys[2]], [xs[2], ys[2]]];
  };
  // A point of the page's viewport at which the mouse meets the element; null where none does, undefined where no
  // point of it is in view.
  const reachable = ({ element, x, y }) => {
    let seen = false;
    for (const [left, top] of points(element.getBoundingClientRect())) {
      const at = [Math.floor(left + x), Math.floor(top + y)];
      if (at[0] < 0 || at[1] < 0 || at[0] >= innerWidth || at[1] >= innerHeight) continue;
      seen = true;
      const found = met(...at);
      if (found && (holds(element, found) || found.closest?.('label')?.control === element)) return at;
    }
    return seen ? null : undefined;
  };

  const selector = (element) => {
    const root = element.getRootNode();
    const steps = [];
    for (let node = element; node; node = node.parentElement) {
      if (node.id && root.querySelectorAll(`#${CSS.escape(node.id)}`).length === 1) {
        steps.unshift(`#${CSS.escape(node.id)}`);
        break;
      }
      const same = [...(node.parentNode?.children ?? [])].filter((other) => other.localName === node.localName);
      steps.unshift(same.length > 1 ? `${node.localName}:nth-of-type(${same.indexOf(node) + 1})` : node.localName);
    }
    const path = steps.join(' > ');
    return root.host ? `${selector(root.host)} >>> ${path}` : path;
  };

  const region = (element) => {
    const found = ancestor(element, (node) => ['nav', 'header', 'main', 'footer', 'aside', 'dialog'].includes(node.localName)
      || ['navigation', 'banner', 'main', 'contentinfo', 'dialog'].includes(attribute(node, 'role')));
    if (!found) return '';
    const roles = { navigation: 'nav', banner: 'header', contentinfo: 'footer' };
    const role = attribute(found, 'role');
    return roles[role] ?? (role === 'main' || role === 'dialog' ? role : found.localName);
  };

  const described = (place) => {
    const { element } = place;
    const input = element.localName === 'input';
    const text = collapse(input ? element.value : element.innerText ?? element.textContent);
    const submits = (element.localName === 'button' && element.type === 'submit')
      || (input && ['submit', 'image'].includes(element.type));
    const form = submits ? element.form : null;
    const link = element.closest('a[href], area[href]');
    // Of an SVG link it is an object.
    const href = typeof link?.href === 'string' ? link.href : '';
    const box = element.getBoundingClientRect();
    const absolute = (url) => { try { return new URL(url, document.baseURI).href; } catch { return ''; } };
    return {
      key: `${element.localName}:${text}:${attribute(element, 'role')}:${attribute(element, 'href')}`,
      selector: selector(element),
      tag: element.localName,
      text,
      names: [attribute(element, 'aria-label'), attribute(element, 'title'), attribute(element, 'value'),
        ...[...element.querySelectorAll('img[alt], svg title')].slice(0, 5)
          .map((image) => attribute(image, 'alt') || image.textContent)].map(collapse).filter(Boolean),
      ids: ['id', 'name', 'data-testid', 'data-test', 'data-action', 'formaction']
        .map((name) => attribute(element, name)).filter(Boolean),
      href,
      newTab: Boolean(link?.target) && !['_self', '_parent', '_top'].includes(link.target),
      download: Boolean(link?.hasAttribute('download')),
      form: form && {
        action: absolute(attribute(element, 'formaction') || attribute(form, 'action')),
        method: (attribute(element, 'formmethod') || attribute(form, 'method') || 'get').toLowerCase(),
        sensitive: Boolean(form.querySelector('input[type=password], input[type=file], [autocomplete^="cc-"]')),
      },
      region: region(element),
      opens: element.localName === 'summary' || ['tab', 'menuitem', 'switch'].includes(attribute(element, 'role'))
        || ['aria-expanded', 'aria-haspopup', 'aria-controls'].some((name) => element.hasAttribute(name)),
      above: box.top + place.y + scrollY < innerHeight,
      area: Math.round(box.width * box.height),
      language: link?.hreflang || '',
      found: place.reason,
    };
  };

  const places = () => {
    const found = [];
    const chosen = new Set();
    for (const place of everything(document, 0, 0, [])) {
      if (found.length >= MOST) break;
      place.reason = reason(place.element);
      if (!place.reason || !usable(place)) continue;
      // What only looks clickable within something that is says nothing of its own.
      const own = place.reason === 'native' || place.reason === 'role';
      if (!own && ancestor(parent(place.element), (node) => chosen.has(node))) continue;
      chosen.add(place.element);
      found.push(place);
    }
    return found;
  };

  const tasks = {
    scan: () => {
      const elements = new Map();
      const obscured = new Set();
      const all = places();
      for (const place of all) {
        const element = described(place);
        if (elements.has(element.key)) continue;
        if (reachable(place) === null) obscured.add(element.key);
        else elements.set(element.key, element);
      }
      const password = [...everything(document, 0, 0, [])].some((place) => place.element.localName === 'input'
        && place.element.type === 'password' && usable(place));
      return {
        url: location.href,
        password,
        complete: all.length < MOST,
        obscured: [...obscured].filter((key) => !elements.has(key)),
        elements: [...elements.values()],
      };
    },
    // Waits until the mouse meets an element with this key.
    aim: async () => {
      for (let why = 'gone'; ; await frame()) {
        const all = places().filter((place) => described(place).key === task.key);
        for (const place of all) {
          const { element } = place;
          if (!reachable(place)) element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
          const before = element.getBoundingClientRect();
          await frame();
          const after = element.getBoundingClientRect();
          const same = ['left', 'top', 'width', 'height'].every((side) => before[side] === after[side]);
          // A frame may have been scrolled with it.
          const now = places().find((other) => other.element === element);
          const at = now && reachable(now);
          if (same && at) return { element: described(now), x: at[0], y: at[1] };
          why = same ? 'obscured' : 'not_stable';
        }
        if (Date.now() >= task.deadline) return { word: why };
      }
    },
    // Waits until nothing has changed for so many milliseconds, and no transition runs.
    quiet: async () => {
      let last = performance.now();
      const observer = new MutationObserver(() => { last = performance.now(); });
      observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
      const moving = () => document.getAnimations().some((animation) => animation.playState === 'running'
        && animation.effect?.getComputedTiming().endTime !== Infinity);
      let quiet = false;
      while (!quiet && Date.now() < task.deadline) {
        await frame();
        if (moving()) last = performance.now();
        quiet = performance.now() - last >= task.quiet;
      }
      observer.disconnect();
      return { url: location.href, quiet };
    },
  };
  try {
    return `V${JSON.stringify(await tasks[task.task]())}`;
  } catch (error) {
    return fail('script_error', String(error));
  }
})

// Every way to a realm of one's own: `realmKinds` is a list of [name, open]; open() returns the frame, or a function that
// returns its window.
(() => {
  const kinds = [];
  const realm = (name, open) => kinds.push([name, open]);
  const frame = (attributes = {}) => {
    const made = document.createElement("iframe");
    made.style.display = "none";
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    document.documentElement.append(made);
    return made;
  };
  const make = (html) => {
    const box = document.createElement("div");
    box.style.display = "none";
    box.innerHTML = html;
    document.documentElement.append(box);
    return box.firstChild;
  };
  const last = () => window[window.length - 1];
  realm("blank", () => frame());
  realm("blank_fragment", () => frame({ src: "about:blank#x" }));
  realm("blank_query", () => frame({ src: "about:blank?x" }));
  realm("srcdoc", () => frame({ srcdoc: "<p>x" }));
  realm("script_url", () => frame({ src: "javascript:'<p>x'" }));
  realm("script_url_void", () => frame({ src: "javascript:void 0" }));
  realm("pending_url", () => frame({ src: "/r/slow?ms=200&v={{v}}" }));
  realm("lazy", () => frame({ src: "/r/slow?ms=1&v={{v}}", loading: "lazy" }));
  realm("no_content", () => frame({ src: "/r/status/204?v={{v}}" }));
  realm("blob", () => frame({ src: URL.createObjectURL(new Blob(["<p>x"], { type: "text/html" })) }));
  realm("sandboxed", () => frame({ sandbox: "allow-same-origin" }));
  realm("sandboxed_srcdoc", () => frame({ sandbox: "allow-same-origin", srcdoc: "<p>x" }));
  realm("sandboxed_scripts", () => frame({ sandbox: "allow-same-origin allow-scripts" }));
  realm("inner_html", () => { const box = make("<iframe></iframe>"); return box; });
  realm("insert_adjacent", () => {
    document.documentElement.insertAdjacentHTML("beforeend", "<iframe id=adjacent hidden></iframe>");
    return document.getElementById("adjacent");
  });
  realm("fragment", () => {
    const template = document.createElement("template");
    template.innerHTML = "<iframe hidden></iframe>";
    document.documentElement.append(template.content.cloneNode(true));
    return document.documentElement.lastElementChild;
  });
  realm("range", () => {
    const range = document.createRange();
    range.selectNode(document.documentElement);
    document.documentElement.append(range.createContextualFragment("<iframe hidden></iframe>"));
    return document.documentElement.lastElementChild;
  });
  realm("shadow", () => {
    const host = document.createElement("div");
    document.documentElement.append(host);
    host.attachShadow({ mode: "closed" }).innerHTML = "<iframe hidden></iframe>";
    return last;
  });
  realm("by_index", () => { frame(); return last; });
  realm("by_name", () => { frame({ name: "byName" }); return () => window.byName; });
  realm("by_frames", () => { frame(); return () => window.frames[window.frames.length - 1]; });
  realm("nested", () => {
    const outer = frame();
    const inner = outer.contentDocument.createElement("iframe");
    outer.contentDocument.documentElement.append(inner);
    return () => inner.contentWindow;
  });
  realm("content_document", () => { const made = frame(); return () => made.contentDocument?.defaultView; });
  realm("document_write", () => {
    const outer = frame();
    outer.contentDocument.write("<iframe></iframe>");
    return () => outer.contentWindow[0];
  });
  realm("object", () => {
    const made = document.createElement("object");
    made.data = "about:blank";
    document.documentElement.append(made);
    return () => made.contentWindow ?? last();
  });
  realm("embed", () => {
    const made = document.createElement("embed");
    made.src = "about:blank";
    made.type = "text/html";
    document.documentElement.append(made);
    return last;
  });
  realm("moved", () => {
    const made = frame();
    const box = document.createElement("div");
    document.documentElement.append(box);
    box.append(made);
    return () => made.contentWindow;
  });
  realm("exec_command", () => {
    const box = document.createElement("div");
    box.contentEditable = "true";
    document.documentElement.append(box);
    box.focus();
    document.execCommand("insertHTML", false, "<iframe></iframe>");
    return last;
  });
  realm("xslt", () => {
    if (!window.XSLTProcessor) return () => null;
    const sheet = new DOMParser().parseFromString('<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:template match="/"><iframe/></xsl:template></xsl:stylesheet>', "text/xml");
    const processor = new XSLTProcessor();
    processor.importStylesheet(sheet);
    document.documentElement.append(processor.transformToFragment(new DOMParser().parseFromString("<a/>", "text/xml"), document));
    return last;
  });
  window.realmKinds = kinds;
})();

// Chrome starts no worker for a page that is a file: the script of the search runs in a hidden frame.
if (location.protocol === "file:") window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    this.waiting = [];
    const frame = document.createElement("iframe");
    frame.hidden = true;
    (document.body || document.documentElement).append(frame);
    this.inside = frame.contentWindow;
    this.inside.postMessage = data => {
      const event = new MessageEvent("message", {data});
      this.dispatchEvent(event);
      if (this.onmessage) this.onmessage(event);
    };
    this.inside.importScripts = (...urls) => urls.reduce((before, one) =>
      before.then(() => this.load(one)), Promise.resolve());
    this.load(url).then(() => {
      this.ready = true;
      this.waiting.splice(0).forEach(data => this.postMessage(data));
    });
  }
  load(url) {
    return new Promise((resolve, reject) => {
      const script = this.inside.document.createElement("script");
      script.src = String(url);
      script.onload = resolve;
      script.onerror = reject;
      this.inside.document.head.append(script);
    });
  }
  postMessage(data) {
    if (!this.ready) this.waiting.push(data);
    else this.inside.dispatchEvent(new this.inside.MessageEvent("message", {data}));
  }
};

// Search in pages that are opened as files: browsers start no worker from a file, so the search runs in a hidden frame.
// The theme looks for it under the name IFrameWorker, and for its scripts beside the first script of the frame.
"use strict";

function addScript(scope, url) {
  return new Promise((resolve, reject) => {
    const script = scope.document.createElement("script");
    script.onload = resolve;
    script.onerror = reject;
    script.src = url;
    scope.document.body.append(script);
  });
}

class IFrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    document.body.append(this.frame);
    const scope = this.frame.contentWindow;
    scope.document.open(); // else Firefox puts an empty document in its place later
    scope.document.write("<body></body>");
    scope.document.close();
    scope.importScripts = (...urls) =>
      urls.reduce((before, next) => before.then(() => addScript(scope, next)), Promise.resolve());
    scope.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    this.ready = addScript(scope, url);
  }

  postMessage(data) {
    this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
  }

  terminate() {
    this.frame.remove();
  }
}

window.IFrameWorker = IFrameWorker;
if (location.protocol === "file:") {
  window.Worker = IFrameWorker;
}

// What the pipeline has put into the page: one JSON block; arrays in it are base64 of little-endian numbers.

export function readContent() {
  return JSON.parse(document.getElementById("content").textContent);
}

export function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

export const floats = (text) => new Float32Array(bytes(text).buffer);
export const shorts = (text) => new Uint16Array(bytes(text).buffer);

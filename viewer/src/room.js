// Where the avatar stands: renderer, floor, and the cameras (free, or the video's own).
//
// The page's axes are three's: y up, the floor at y = 0, the filmed person about the origin and facing +z. `toPage` carries
// the body track's world there.

import { CanvasTexture, Color, Matrix4, Mesh, MeshBasicMaterial, PerspectiveCamera, CircleGeometry, Scene, SRGBColorSpace, Vector3, WebGLRenderer } from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { SparkRenderer } from "@sparkjsdev/spark";

const NEAR = 0.02, FAR = 60; // m
const FREE_FOV = 28; // degrees: a longer lens, as for portraits
const SIGMAS = 3; // as model/render/splatting.py
const DILATION_PX2 = 0.3;
const LEAST_ALPHA = 1 / 255;
const DIRECTIONS = { front: 0, left: 90, back: 180, right: 270 }; // degrees about the person, from the filmed side

export class Room {
  constructor(canvas, content) {
    this.canvas = canvas;
    this.camera = new PerspectiveCamera(FREE_FOV, 1, NEAR, FAR);
    this.scene = new Scene();
    this.renderer = new WebGLRenderer({ canvas, antialias: false, alpha: true, powerPreference: "high-performance" });
    this.renderer.setPixelRatio(Math.min(2, window.devicePixelRatio));
    this.spark = new SparkRenderer({
      renderer: this.renderer, enableLod: false, covSplats: true, accumExtSplats: true, sortRadial: false,
      maxStdDev: SIGMAS, preBlurAmount: DILATION_PX2, blurAmount: 0, minAlpha: LEAST_ALPHA, onDirty: () => this.invalidate(),
    });
    this.scene.add(this.spark);
    this.toPage = pageAxes(content.stand);
    this.fromPage = this.toPage.clone().invert();
    this.height = content.stand.height;
    this.filming = content.camera;
    this.floor = floorDisc(this.height);
    this.scene.add(this.floor);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = true;
    this.controls.dampingFactor = 0.12;
    this.controls.minDistance = 0.15 * this.height;
    this.controls.maxDistance = 12 * this.height;
    this.controls.autoRotateSpeed = 3;
    this.throughVideo = false;
    this.dirty = true;
    this.controls.addEventListener("start", () => this.leaveVideo());
    this.controls.addEventListener("change", () => this.invalidate());
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  add(object) {
    object.applyMatrix4(this.toPage);
    this.scene.add(object);
    object.updateMatrixWorld();
  }

  invalidate() {
    this.dirty = true;
  }

  paint(color, floor) {
    this.scene.background = color === null ? null : new Color(color);
    this.floor.visible = floor && color !== null;
    this.invalidate();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    if (!clientWidth || !clientHeight) return;
    this.renderer.setSize(clientWidth, clientHeight, false);
    this.camera.aspect = clientWidth / clientHeight;
    this.#project();
    this.invalidate();
  }

  /** Look from a named side, or through the video's own camera. `middle` is where the person is, in page axes. */
  look(view, middle) {
    this.throughVideo = view === "video";
    if (!this.throughVideo) {
      const angle = (DIRECTIONS[view] * Math.PI) / 180;
      const room = 1.18 * this.height;
      const half = Math.tan((FREE_FOV * Math.PI) / 360) * Math.min(1, this.camera.aspect / 0.75);
      const back = room / 2 / half;
      this.controls.target.copy(middle);
      this.camera.position.set(Math.sin(angle), 0.08, Math.cos(angle)).multiplyScalar(back).add(middle);
    }
    this.#project();
    this.controls.update();
    this.invalidate();
  }

  /** Follow the person: camera and what it looks at move alike. */
  shift(by) {
    if (this.throughVideo) return;
    this.camera.position.add(by);
    this.controls.target.add(by);
    this.invalidate();
  }

  /** From the video's camera on freely, from where it stands. */
  leaveVideo() {
    if (!this.throughVideo) return;
    this.throughVideo = false;
    this.onLeftVideo?.();
    this.#project();
  }

  /** Draw if anything has changed. Returns whether it has drawn. */
  draw(seconds, avatar) {
    this.controls.enabled = true;
    if (!this.throughVideo) this.controls.update(seconds);
    if (!this.dirty) return false;
    this.dirty = false;
    avatar.seenFrom(this.camera.getWorldPosition(new Vector3()));
    this.renderer.render(this.scene, this.camera);
    return true;
  }

  /**
   * One finished picture, every splat sorted, as a PNG data address.
   *
   * `K`, `w2c` (OpenCV axes, the body track's world), `width` and `height` give the camera; without them it is the present one.
   */
  async still(avatar, { width, height, K, w2c, background }) {
    const kept = { background: this.scene.background, floor: this.floor.visible, ratio: this.renderer.getPixelRatio() };
    const camera = this.camera.clone();
    try {
      this.busy = true;
      this.renderer.setPixelRatio(1);
      this.renderer.setSize(width, height, false);
      if (K) aim(camera, this.toPage, w2c, K, width, height);
      else if (this.throughVideo) aim(camera, this.toPage, this.filming.w2c, this.#fitted(width, height), width, height);
      if (background !== undefined) this.paint(background, this.floor.visible && !K);
      camera.updateMatrixWorld();
      avatar.seenFrom(camera.getWorldPosition(new Vector3()));
      while (this.spark.sorting) await new Promise((done) => setTimeout(done, 2));
      await this.spark.update({ scene: this.scene, camera });
      this.renderer.render(this.scene, camera);
      return this.canvas.toDataURL("image/png");
    } finally {
      this.busy = false;
      this.renderer.setPixelRatio(kept.ratio);
      this.scene.background = kept.background;
      this.floor.visible = kept.floor;
      this.resize();
    }
  }

  #project() {
    const { clientWidth: width, clientHeight: height } = this.canvas.parentElement;
    if (this.throughVideo) aim(this.camera, this.toPage, this.filming.w2c, this.#fitted(width, height), width, height);
    else {
      this.camera.matrixAutoUpdate = true;
      this.camera.updateProjectionMatrix();
    }
  }

  /** Intrinsics that show the whole video frame in the middle of a picture of another size. */
  #fitted(width, height) {
    const { K, width: w, height: h } = this.filming;
    const scale = Math.min(width / w, height / h);
    return [
      [K[0][0] * scale, 0, K[0][2] * scale + (width - w * scale) / 2],
      [0, K[1][1] * scale, K[1][2] * scale + (height - h * scale) / 2],
    ];
  }
}

/** Point a camera as an OpenCV one: pixel (u, v) = K (x, y, z) / z with y down and z forward. */
export function aim(camera, toPage, w2c, K, width, height) {
  const toWorld = new Matrix4().set(...w2c.flat()).invert();
  const flip = new Matrix4().makeScale(1, -1, -1);
  new Matrix4().multiplyMatrices(toPage, toWorld).multiply(flip).decompose(camera.position, camera.quaternion, camera.scale);
  camera.scale.setScalar(1);
  camera.updateMatrixWorld();
  const [[fx, , cx], [, fy, cy]] = K;
  camera.projectionMatrix.set(
    (2 * fx) / width, 0, 1 - (2 * cx) / width, 0,
    0, (2 * fy) / height, (2 * cy) / height - 1, 0,
    0, 0, -(FAR + NEAR) / (FAR - NEAR), (-2 * FAR * NEAR) / (FAR - NEAR),
    0, 0, -1, 0,
  );
  camera.projectionMatrixInverse.copy(camera.projectionMatrix).invert();
}

/** The body track's world into page axes: `up` to y, `ahead` to z, `origin` (on the floor) to the origin. */
function pageAxes({ origin, up, ahead }) {
  const y = new Vector3(...up), z = new Vector3(...ahead), x = new Vector3().crossVectors(y, z);
  const turn = new Matrix4().set(x.x, x.y, x.z, 0, y.x, y.y, y.z, 0, z.x, z.y, z.z, 0, 0, 0, 0, 1);
  return turn.multiply(new Matrix4().makeTranslation(-origin[0], -origin[1], -origin[2]));
}

/** A soft disc to stand on. */
function floorDisc(height) {
  const picture = document.createElement("canvas");
  picture.width = picture.height = 256;
  const pen = picture.getContext("2d");
  const fade = pen.createRadialGradient(128, 128, 8, 128, 128, 128);
  fade.addColorStop(0, "rgba(20,24,30,0.42)");
  fade.addColorStop(0.25, "rgba(20,24,30,0.2)");
  fade.addColorStop(1, "rgba(20,24,30,0)");
  pen.fillStyle = fade;
  pen.fillRect(0, 0, 256, 256);
  const texture = new CanvasTexture(picture);
  texture.colorSpace = SRGBColorSpace;
  const disc = new Mesh(new CircleGeometry(0.45 * height, 64), new MeshBasicMaterial({ map: texture, transparent: true, depthWrite: false }));
  disc.rotation.x = -Math.PI / 2;
  disc.renderOrder = -1;
  return disc;
}

// Where the avatar stands: renderer, floor, and the cameras (free, or the video's own).
//
// The page's axes are three's: y up, the floor at y = 0, the filmed person about the origin and facing +z. `toPage` carries
// the body track's world there.

import {
  CanvasTexture, CircleGeometry, Color, DataTexture, Matrix4, Mesh, MeshBasicMaterial, PerspectiveCamera, PlaneGeometry, RGBAIntegerFormat, Scene,
  ShaderMaterial, SRGBColorSpace, UnsignedIntType, Vector2, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { SparkRenderer, utils } from "@sparkjsdev/spark";

const NEAR = 0.02, FAR = 60; // m
const FREE_FOV = 28; // degrees: a longer lens, as for portraits
const SIGMAS = 3; // as model/render/splatting.py
const DILATION_PX2 = 0.3;
const LEAST_ALPHA = 1 / 255;
const ORDER_WIDTH = 4096, NO_SPLAT = 0xffffffff; // as Spark has them
const ROOM_AROUND = 1.36, LOOK_BELOW = 0.055; // of the person's height: picture height, and how far below the middle to look (the player covers the foot)
const BESIDE_PANELS = 1.1; // of the person's height, between the buttons above and the player below
const PLAYER_PX = 62; // what the player covers, with its margin
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
    this.filmedDetail = this.filming.K[0][0] / eyeOf(this.filming.w2c).distanceTo(new Vector3(...content.stand.origin));
    this.floor = floorGrid(this.height);
    this.shadow = contactShadow(this.height);
    this.floor.add(this.shadow);
    this.scene.add(this.floor);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.enableDamping = true;
    this.controls.dampingFactor = 0.12;
    this.controls.minDistance = 0.15 * this.height;
    this.controls.maxDistance = 12 * this.height;
    this.controls.autoRotateSpeed = 3;
    this.throughVideo = this.clear = false;
    this.color = null;
    this.standsOnFloor = true;
    this.dirty = this.jumped = true;
    this.controls.addEventListener("start", () => {
      this.leaveVideo();
      this.onOwnView?.();
    });
    this.controls.addEventListener("change", () => this.invalidate());
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.resize();
  }

  /** Put splats into the track's world. */
  add(mesh) {
    mesh.applyMatrix4(this.toPage);
    this.scene.add(mesh);
    mesh.updateMatrixWorld();
    this.spark.orderingTexture = orderOf(mesh.numSplats);
    this.renderer.initTexture(this.spark.orderingTexture);
  }

  invalidate() {
    this.dirty = true;
  }

  /** What is to be seen has little to do with the last picture: that one stays until the splats are sorted anew. */
  jump() {
    this.jumped = this.dirty = true;
  }

  /** Colour and floor; null is no colour at all. */
  paint(color, floor) {
    this.color = color;
    this.standsOnFloor = floor;
    this.invalidate();
  }

  #dress(color, floor) {
    this.scene.background = color === null ? null : new Color(color);
    this.floor.visible = floor && color !== null;
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
    this.throughVideo = view === "video" || view === "over";
    this.clear = view === "over";
    if (!this.throughVideo) {
      const angle = (DIRECTIONS[view] * Math.PI) / 180;
      const half = Math.tan((FREE_FOV * Math.PI) / 360) * Math.min(1, this.camera.aspect / 0.75);
      const { picture, below } = this.#framing();
      const back = picture / 2 / half;
      middle = middle.clone().setY(middle.y - below);
      this.controls.target.copy(middle);
      this.camera.position.set(Math.sin(angle), 0.08, Math.cos(angle)).multiplyScalar(back).add(middle);
    }
    this.#project();
    this.controls.update();
    this.jump();
  }

  /** The picture's height about the person, and how far below the middle to look, m: in a low window buttons and player cover much. */
  #framing() {
    const usual = { picture: ROOM_AROUND * this.height, below: LOOK_BELOW * this.height };
    const whole = this.canvas.getBoundingClientRect();
    const top = document.getElementById("views").getBoundingClientRect().bottom - whole.top;
    const free = Math.max(0.3, 1 - (top + PLAYER_PX) / whole.height);
    const picture = (BESIDE_PANELS * this.height) / free;
    return picture > usual.picture ? { picture, below: ((PLAYER_PX - top) / 2 / whole.height) * picture } : usual;
  }

  /** Where the person is, page axes; the shadow is there. */
  stand(middle) {
    this.shadow.position.set(middle.x, -middle.z, 0.001);
    this.floor.material.userData.middle.set(middle.x, middle.z);
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
    this.throughVideo = this.clear = false;
    this.#project();
  }

  /** Draw if anything has changed. Returns whether it has drawn. */
  draw(seconds, avatar) {
    if (!this.throughVideo) this.controls.update(seconds);
    if (!this.dirty || this.settling) return false;
    this.dirty = false;
    avatar.seenFrom(this.camera.getWorldPosition(new Vector3()));
    this.spark.preBlurAmount = DILATION_PX2 * this.#closeness(this.camera, this.renderer.domElement.height) ** 2;
    this.#dress(this.clear ? null : this.color, this.standsOnFloor);
    if (this.jumped) {
      this.#settle();
      return false;
    }
    this.renderer.render(this.scene, this.camera);
    return true;
  }

  /** Draw once the splats are sorted for this camera and pose; until then the last picture stays. */
  async #settle() {
    this.settling = true;
    this.jumped = false;
    try {
      const camera = this.camera.clone();
      camera.updateMatrixWorld();
      while (this.spark.sorting) await new Promise((done) => setTimeout(done, 2));
      await this.spark.update({ scene: this.scene, camera });
      if (!this.busy) this.renderer.render(this.scene, camera);
    } finally {
      this.settling = false;
      this.invalidate();
    }
  }

  /**
   * One finished picture, every splat sorted, as a PNG data address.
   *
   * `K`, `w2c` (OpenCV axes, the body track's world), `width` and `height` give the camera; without them it is the present one.
   */
  async still(avatar, { width, height, K, w2c, background }) {
    const ratio = this.renderer.getPixelRatio();
    const camera = this.camera.clone();
    try {
      this.busy = true;
      this.renderer.setPixelRatio(1);
      this.renderer.setSize(width, height, false);
      if (K) aim(camera, this.toPage, w2c, K, width, height);
      else if (this.throughVideo) aim(camera, this.toPage, this.filming.w2c, this.#fitted(width, height), width, height);
      else {
        camera.aspect = width / height;
        camera.updateProjectionMatrix();
      }
      this.#dress(background === undefined ? this.color : background, this.standsOnFloor && !K);
      this.spark.preBlurAmount = DILATION_PX2 * (K ? 1 : this.#closeness(camera, height) ** 2);
      camera.updateMatrixWorld();
      avatar.seenFrom(camera.getWorldPosition(new Vector3()));
      while (this.spark.sorting || this.settling) await new Promise((done) => setTimeout(done, 2));
      await this.spark.update({ scene: this.scene, camera });
      this.renderer.render(this.scene, camera);
      return this.canvas.toDataURL("image/png");
    } finally {
      this.busy = false;
      this.renderer.setPixelRatio(ratio);
      this.resize();
    }
  }

  /**
   * How much nearer than the video this picture is, at least 1: pixels a metre over the video's. Splats were fitted with the
   * rasteriser's blur of a fraction of the video's pixels; seen from nearer, that blur grows with them, or gaps would show.
   */
  #closeness(camera, height) {
    if (this.throughVideo) return Math.max(1, (camera.projectionMatrix.elements[5] * height) / 2 / this.filming.K[1][1]);
    const distance = camera.position.distanceTo(this.controls.target);
    return Math.max(1, (camera.projectionMatrix.elements[5] * height) / 2 / distance / this.filmedDetail);
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

/** Where an OpenCV camera stands, in the world of its extrinsics. */
function eyeOf(w2c) {
  return new Vector3().setFromMatrixPosition(new Matrix4().set(...w2c.flat()).invert());
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

/**
 * Room for the order in which splats are drawn, on the GPU from the start. Spark (2.2.0) makes it at the first sorting, and a
 * second one that ends before the first was drawn would be lost: holes, until the camera moves.
 */
function orderOf(count) {
  const rows = Math.ceil(utils.getTextureSize(count).maxSplats / (4 * ORDER_WIDTH)) + 1;
  const texture = new DataTexture(new Uint32Array(4 * ORDER_WIDTH * rows).fill(NO_SPLAT), ORDER_WIDTH, rows, RGBAIntegerFormat, UnsignedIntType);
  texture.internalFormat = "RGBA32UI";
  texture.needsUpdate = true;
  return texture;
}

/** The floor, drawn around the person only: lines every half metre, so that a walk is seen as one. */
function floorGrid(height) {
  const middle = new Vector2();
  const material = new ShaderMaterial({
    transparent: true,
    depthWrite: false,
    uniforms: { middle: { value: middle }, reach: { value: 1.1 * height } },
    vertexShader: "out vec2 place; void main() { place = vec2(position.x, -position.y); gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }",
    fragmentShader: `
      in vec2 place;
      uniform vec2 middle;
      uniform float reach;
      void main() {
        vec2 cell = place / 0.5;
        vec2 line = abs(fract(cell - 0.5) - 0.5) / fwidth(cell);
        float drawn = 1.0 - min(min(line.x, line.y), 1.0);
        float near = 1.0 - smoothstep(0.3 * reach, reach, distance(place, middle));
        gl_FragColor = vec4(vec3(0.45), 0.35 * drawn * near);
      }`,
  });
  material.userData.middle = middle;
  const plane = new Mesh(new PlaneGeometry(40, 40), material);
  plane.rotation.x = -Math.PI / 2;
  plane.renderOrder = -2;
  return plane;
}

/** A soft shadow where the person stands. */
function contactShadow(height) {
  const picture = document.createElement("canvas");
  picture.width = picture.height = 256;
  const pen = picture.getContext("2d");
  const fade = pen.createRadialGradient(128, 128, 4, 128, 128, 128);
  fade.addColorStop(0, "rgba(20,24,30,0.45)");
  fade.addColorStop(0.35, "rgba(20,24,30,0.2)");
  fade.addColorStop(1, "rgba(20,24,30,0)");
  pen.fillStyle = fade;
  pen.fillRect(0, 0, 256, 256);
  const texture = new CanvasTexture(picture);
  texture.colorSpace = SRGBColorSpace;
  const disc = new Mesh(new CircleGeometry(0.26 * height, 48), new MeshBasicMaterial({ map: texture, transparent: true, depthWrite: false }));
  disc.renderOrder = -1;
  return disc;
}

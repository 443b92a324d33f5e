// The page: content in, avatar on screen, controls wired. `window.avatarPage` is the same for scripts (see viewer/README.md).

import "./style.css";
import { Matrix3, Matrix4, Quaternion, Vector3 } from "three";
import { AvatarSplats } from "./avatar.js";
import { readContent } from "./content.js";
import { Controls } from "./controls.js";
import { Motion } from "./motion.js";
import { Room } from "./room.js";
import { turnedFurther } from "./skeleton.js";

const VIEWS = ["front", "left", "back", "right", "video", "over"];
const RATE_WINDOW = 1000; // ms over which frames are counted

class Page {
  constructor(content) {
    this.content = content;
    this.motions = content.motions.map((record) => new Motion(record, content.skeleton.joints.length));
    this.motion = this.motions[0];
    this.time = 0;
    this.speed = 1;
    this.playing = false;
    this.extra = new Map();
    this.light = "world";
    this.lightTurn = 0; // degrees about the vertical, from where it was filmed
    this.background = "#d5dae0";
    this.stamps = [];
    this.room = new Room(document.getElementById("canvas"), content);
    this.avatar = new AvatarSplats(content);
    this.room.add(this.avatar.mesh);
    this.headingThen = this.#heading(this.motions[0].poseAt(0));
    this.middle = this.#takePose();
    this.controls = new Controls(this);
    this.room.onOwnView = () => this.controls.showView(null);
  }

  async start() {
    const wish = new URLSearchParams(location.search);
    this.choose(wish.get("motion") ?? this.motion.name);
    this.seek(Number(wish.get("time")) || 0);
    this.paint(this.background, true);
    this.look(VIEWS.includes(wish.get("view")) ? wish.get("view") : "front");
    this.play(wish.get("play") !== "0");
    await this.avatar.mesh.initialized;
    let last = performance.now();
    const step = (now) => {
      requestAnimationFrame(step);
      const seconds = Math.min(0.1, (now - last) / 1000);
      last = now;
      if (!this.room.busy) this.#tick(seconds, now);
    };
    requestAnimationFrame(step);
  }

  // ------------------------------------------------------------------------------------------------ what can be asked

  choose(name) {
    this.motion = this.motions.find((motion) => motion.name === name) ?? this.motions[0];
    this.seek(0);
    this.controls.showMotion();
  }

  seek(time) {
    this.time = Math.min(Math.max(0, time), this.motion.seconds);
    this.#move();
    this.room.jump();
  }

  play(on) {
    this.playing = on && !this.motion.isStill;
    this.controls.showPlaying();
  }

  /** Turn a joint by degrees about its own axes, beyond what the motion does. */
  bend(joint, degrees) {
    if (degrees.some((d) => d)) this.extra.set(joint, degrees);
    else this.extra.delete(joint);
    this.#move();
  }

  look(view) {
    if (view === "over" && !this.motion.filmed) view = "video";
    this.room.look(view, this.middle);
    this.controls.showView(view);
  }

  paint(color, floor) {
    this.background = color;
    this.room.paint(color, floor);
  }

  lightBy(kind) {
    this.light = kind;
    this.#move();
  }

  /** Carry the light around the person by so many degrees. */
  turnLight(degrees) {
    this.lightTurn = degrees;
    this.#move();
  }

  /** Folds that follow the pose: on or off. */
  fold(on) {
    this.avatar.fold(on);
    this.#move();
  }

  /** A finished picture as a PNG data address; options as Room.still, and `motion`, `row` or `time`. */
  async still(options) {
    this.play(false);
    if (options.motion) this.choose(options.motion);
    if (options.row !== undefined) this.seek(this.motion.times[options.row]);
    if (options.time !== undefined) this.seek(options.time);
    return this.room.still(this.avatar, options);
  }

  get rate() {
    return this.stamps.length;
  }

  // ---------------------------------------------------------------------------------------------------- what happens

  #tick(seconds, now) {
    if (this.playing) {
      this.time = (this.time + seconds * this.speed) % this.motion.seconds;
      this.#move();
    }
    if (this.room.draw(seconds, this.avatar)) this.stamps.push(now);
    while (this.stamps.length && this.stamps[0] < now - RATE_WINDOW) this.stamps.shift();
    this.controls.showRate(this.rate);
  }

  #move() {
    const before = this.middle;
    this.middle = this.#takePose();
    if (this.controls?.follows && before) this.room.shift(this.middle.clone().sub(before).setY(0));
    this.room.stand(this.middle);
    this.controls?.showTime();
    this.room.invalidate();
  }

  /** Pose the avatar. Returns the middle of the person's ground, at half its height, in page axes. */
  #takePose() {
    const motion = this.motion.poseAt(this.time);
    const pose = turnedFurther(motion, this.extra);
    const { joints } = this.avatar.pose(pose);
    this.avatar.lightBy(this.light, this.#turnBack(pose));
    const root = new Vector3(...joints[0]).applyMatrix4(this.room.toPage);
    return root.setY(this.room.height / 2);
  }

  /** How far the person has turned about the vertical, rad, in page axes. */
  #heading(pose) {
    const ahead = new Vector3(0, 0, 1).applyQuaternion(new Quaternion().fromArray(pose.turns, 0)).transformDirection(this.room.toPage);
    return Math.atan2(ahead.x, ahead.z);
  }

  /** From the body track's world to the one that the light stays in; for "person", as it was when they faced as in the first frame. */
  #turnBack(pose) {
    const back = this.light === "person" ? this.headingThen - this.#heading(pose) : 0;
    const turn = new Matrix4().makeRotationY(back - (this.lightTurn * Math.PI) / 180);
    return new Matrix3().setFromMatrix4(this.room.fromPage.clone().multiply(turn).multiply(this.room.toPage));
  }
}

function say(text) {
  const message = document.getElementById("message");
  message.textContent = text;
  message.hidden = false;
}

function hasWebGL2() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl2"));
  } catch {
    return false;
  }
}

async function open() {
  const content = readContent();
  if (!hasWebGL2()) {
    document.body.dataset.state = "no-webgl2";
    say("The avatar is drawn with WebGL 2, and this browser does not offer it here.\n\nOpen the page in a current Chrome, Edge, Firefox or Safari; if it is one, switch on hardware acceleration in its settings, or update the graphics driver.");
    return;
  }
  const page = new Page(content);
  window.avatarPage = page;
  page.room.canvas.addEventListener("webglcontextlost", () => say("The browser took the graphics card away from this page (too many pages, or the driver restarted). Load the page again."));
  await page.start();
  document.body.dataset.state = "ready";
}

open().catch((error) => {
  document.body.dataset.state = "failed";
  say(`The page could not start: ${error?.message ?? error}`);
  console.error(error);
});

// The panel: every control does one thing to the page, and shows what the page says.

const AXES = ["bend (x)", "twist (y)", "side (z)"];
const LIMIT = 120; // degrees either way

export class Controls {
  constructor(page) {
    this.page = page;
    this.get = (id) => document.getElementById(id);
    const { content } = page;
    this.get("subject").textContent = content.subject;
    this.get("notes").textContent = content.notes;
    this.#motions();
    this.#pose(content.skeleton.names);
    this.#picture();
    this.#player();
  }

  get follows() {
    return this.get("follow").checked;
  }

  // ----------------------------------------------------------------------------------------------------- what it shows

  showMotion() {
    for (const button of this.get("motions").children) button.setAttribute("aria-checked", button.value === this.page.motion.name);
    this.get("about-motion").textContent = this.page.motion.about;
    this.get("video").hidden = !this.page.motion.filmed;
    this.get("player").hidden = this.page.motion.isStill;
    for (const button of this.get("views").children) button.hidden = button.dataset.view === "over" && !this.page.motion.filmed;
    if (!this.page.motion.filmed && !this.get("behind").hidden) this.page.look("video");
    this.showTime();
  }

  showTime() {
    const { motion, time } = this.page;
    const scrub = this.get("scrub");
    scrub.max = motion.seconds || 1;
    scrub.value = time;
    this.get("clock").textContent = `${time.toFixed(2)} / ${motion.seconds.toFixed(2)} s`;
    if (!motion.filmed) return;
    const row = motion.rowAt(time);
    if (row === this.row) return;
    this.row = row;
    const { video } = this.page.content;
    const picture = `data:${video.type};base64,${video.frames[row]}`;
    this.get("frame").src = picture;
    this.get("behind").src = picture;
    this.get("caption").textContent = `the video, frame ${video.frame_ids[row]}${video.heldout.includes(row) ? ", not trained on" : ""}`;
  }

  showPlaying() {
    this.get("play").textContent = this.page.playing ? "❚❚" : "▶";
  }

  showView(view) {
    for (const button of this.get("views").children) button.setAttribute("aria-pressed", button.dataset.view === view);
    this.get("behind").hidden = view !== "over";
  }

  showRate(rate) {
    this.get("rate").textContent = this.page.playing ? `${rate} frames/s` : "";
  }

  // -------------------------------------------------------------------------------------------------------- what it does

  #motions() {
    for (const motion of this.page.motions) {
      const button = Object.assign(document.createElement("button"), { textContent: motion.title, value: motion.name });
      button.setAttribute("role", "radio");
      button.onclick = () => {
        this.page.choose(motion.name);
        this.page.play(true);
      };
      this.get("motions").append(button);
    }
  }

  #pose(names) {
    const joint = this.get("joint");
    names.forEach((name, k) => joint.append(new Option(name.replaceAll("_", " "), k)));
    const sliders = AXES.map((axis) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "range", min: -LIMIT, max: LIMIT, value: 0 });
      const output = document.createElement("output");
      label.append(axis, input, output);
      this.get("sliders").append(label);
      return { input, output };
    });
    const show = () => {
      const degrees = this.page.extra.get(Number(joint.value)) ?? [0, 0, 0];
      sliders.forEach(({ input, output }, i) => {
        input.value = degrees[i];
        output.textContent = `${degrees[i]}°`;
      });
    };
    const bend = (degrees) => {
      this.page.bend(Number(joint.value), degrees);
      show();
    };
    for (const { input } of sliders) input.oninput = () => bend(sliders.map((s) => Number(s.input.value)));
    joint.onchange = show;
    this.get("reset-joint").onclick = () => bend([0, 0, 0]);
    this.get("reset-pose").onclick = () => {
      for (const k of [...this.page.extra.keys()]) this.page.bend(k, [0, 0, 0]);
      show();
    };
    const { folds } = this.page.avatar;
    this.get("folding").hidden = folds === null;
    this.get("folds").onchange = (event) => this.page.fold(event.target.checked);
    joint.value = Math.max(0, names.indexOf("left_shoulder"));
    show();
  }

  #picture() {
    const swatches = [...this.get("backgrounds").querySelectorAll("button")];
    const paint = (color) => {
      for (const swatch of swatches) swatch.setAttribute("aria-pressed", swatch.dataset.color === color);
      this.get("color").value = color;
      this.page.paint(color, this.get("floor").checked);
    };
    for (const swatch of swatches) swatch.onclick = () => paint(swatch.dataset.color);
    this.get("color").oninput = () => paint(this.get("color").value);
    this.get("floor").onchange = () => paint(this.page.background);
    paint(this.page.background);
    this.get("turntable").onchange = (event) => {
      this.page.room.leaveVideo();
      this.showView(null);
      this.page.room.controls.autoRotate = event.target.checked;
    };
    this.get("light").onchange = (event) => this.page.lightBy(event.target.value);
    this.get("light-turn").oninput = (event) => this.page.turnLight(Number(event.target.value));
    for (const button of this.get("views").children) button.onclick = () => this.page.look(button.dataset.view);
    this.get("shot").onclick = () => this.#save();
  }

  #player() {
    this.get("play").onclick = () => this.page.play(!this.page.playing);
    this.get("scrub").oninput = (event) => {
      this.page.play(false);
      this.page.seek(Number(event.target.value));
    };
    this.get("speed").onchange = (event) => (this.page.speed = Number(event.target.value));
    addEventListener("keydown", (event) => {
      if (event.target.matches("input, select, button")) return;
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.key === " ") this.page.play(!this.page.playing);
      else if (step) {
        const { motion, time } = this.page;
        this.page.play(false);
        this.page.seek(motion.times[Math.min(motion.times.length - 1, Math.max(0, motion.rowAt(time) + step))]);
      } else return;
      event.preventDefault();
    });
  }

  async #save() {
    const { canvas } = this.page.room;
    const background = this.get("clear").checked ? null : this.page.background;
    const { motion, time } = this.page;
    const picture = await this.page.still({ width: canvas.width, height: canvas.height, background });
    const name = `${this.page.content.subject}-${motion.name}-${time.toFixed(2)}.png`;
    Object.assign(document.createElement("a"), { href: picture, download: name }).click();
  }
}

// Motions: rows of poses at given times, and the pose in between.

import { Quaternion } from "three";
import { turnOfVector } from "./skeleton.js";
import { floats } from "./content.js";

export class Motion {
  /** `record` is one entry of the content's motions (see tasks/page_content.py). */
  constructor(record, numJoints) {
    this.name = record.name;
    this.title = record.title;
    this.about = record.about;
    this.times = record.times;
    this.filmed = record.filmed;
    this.places = floats(record.places);
    this.numJoints = numJoints;
    const vectors = floats(record.turns);
    this.turns = new Float32Array((vectors.length / 3) * 4);
    for (let i = 0; i < vectors.length / 3; i++) turnOfVector(vectors[3 * i], vectors[3 * i + 1], vectors[3 * i + 2], this.turns, 4 * i);
  }

  get seconds() {
    return this.times.at(-1);
  }

  get isStill() {
    return this.times.length === 1;
  }

  /** The row whose time is nearest. */
  rowAt(time) {
    let best = 0;
    this.times.forEach((t, row) => {
      if (Math.abs(t - time) < Math.abs(this.times[best] - time)) best = row;
    });
    return best;
  }

  /** The pose at a time, the rows around it blended: rotations along the shortest arc, places on a line. */
  poseAt(time) {
    const next = Math.max(1, this.times.findIndex((t) => t > time));
    const after = time >= this.seconds ? this.times.length - 1 : next;
    const before = Math.max(0, after - 1);
    const span = this.times[after] - this.times[before];
    const share = span > 0 ? Math.min(1, Math.max(0, (time - this.times[before]) / span)) : 0;
    const stride = 4 * this.numJoints;
    const turns = new Float32Array(stride);
    for (let k = 0; k < stride; k += 4) Quaternion.slerpFlat(turns, k, this.turns, before * stride + k, this.turns, after * stride + k, share);
    const place = [0, 1, 2].map((i) => this.places[3 * before + i] * (1 - share) + this.places[3 * after + i] * share);
    return { turns, place };
  }
}

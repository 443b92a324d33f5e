// Folds that follow the pose, as model/pose_shapes.py has them: what the surface does in some key poses, blended for every
// texel of the feature map by how near the joints around it are to each key. tasks/page_folds.py says what is packed how.
//
// A blend of some 11,000 texels takes a few milliseconds and is done when the pose has changed, on the processor: most keys are
// too far to count, which a loop can skip and a shader cannot. The graphics card reads the blended map for each splat.

import { turnOfVector } from "./skeleton.js";
import { bytes, floats, shorts } from "./content.js";

const FULL = 65535;
const FARTHEST = 12; // d^2 / 2 reach^2 from which on a key takes less than a thousandth of its shape

export class Folds {
  /** `record` is the content's "folds", `parents` the skeleton's. */
  constructor(record, parents) {
    this.side = record.side;
    this.fade = record.fade;
    this.around = record.around;
    this.perAngle = 1 / (2 * record.reach ** 2);
    this.parents = parents;
    this.units = floats(record.units);
    this.numKeys = this.units.length / 6;
    this.shapes = new Int8Array(bytes(record.shapes).buffer);
    this.joints = bytes(record.joints);
    this.weights = Float32Array.from(shorts(record.weights), (q) => (record.most * q) / FULL);
    this.source = shorts(record.source);
    this.places = shorts(record.places);
    this.numTexels = this.joints.length / 4;
    const vectors = floats(record.keys);
    this.keys = new Float64Array((vectors.length / 3) * 4);
    for (let i = 0; i < vectors.length / 3; i++) turnOfVector(vectors[3 * i], vectors[3 * i + 1], vectors[3 * i + 2], this.keys, 4 * i);
    this.table = new Float64Array(parents.length * this.numKeys);
    this.blended = new Float32Array(6 * this.numTexels);
    this.map = new Float32Array(8 * this.side * this.side); // two RGBA texels a place: displacement, change of albedo
  }

  /** Blend for a pose's turns (J quaternions, the root's left out of account) into `map`. */
  blend(turns) {
    this.#measure(turns);
    const { numKeys, numTexels, table, joints, weights, shapes, units, blended, source, map } = this;
    const near = new Float64Array(numKeys), which = new Int32Array(numKeys);
    for (let i = 0; i < numTexels; i++) {
      const at = 4 * i;
      const w0 = weights[at], w1 = weights[at + 1], w2 = weights[at + 2], w3 = weights[at + 3];
      const r0 = joints[at] * numKeys, r1 = joints[at + 1] * numKeys, r2 = joints[at + 2] * numKeys, r3 = joints[at + 3] * numKeys;
      let total = this.fade, count = 0;
      for (let k = 0; k < numKeys; k++) {
        let far = w0 * table[r0 + k]; // the joint that counts most comes first, and mostly decides
        if (far > FARTHEST) continue;
        far += w1 * table[r1 + k] + w2 * table[r2 + k] + w3 * table[r3 + k];
        if (far > FARTHEST) continue;
        total += near[count] = Math.exp(-far);
        which[count++] = k;
      }
      let a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
      for (let n = 0; n < count; n++) {
        const share = near[n] / total, unit = 6 * which[n], shape = 6 * (i * numKeys + which[n]);
        a += share * units[unit] * shapes[shape];
        b += share * units[unit + 1] * shapes[shape + 1];
        c += share * units[unit + 2] * shapes[shape + 2];
        d += share * units[unit + 3] * shapes[shape + 3];
        e += share * units[unit + 4] * shapes[shape + 4];
        f += share * units[unit + 5] * shapes[shape + 5];
      }
      const out = 6 * i;
      blended[out] = a;
      blended[out + 1] = b;
      blended[out + 2] = c;
      blended[out + 3] = d;
      blended[out + 4] = e;
      blended[out + 5] = f;
    }
    for (let p = 0; p < source.length; p++) {
      const from = 6 * source[p], to = 8 * p;
      map[to] = blended[from];
      map[to + 1] = blended[from + 1];
      map[to + 2] = blended[from + 2];
      map[to + 4] = blended[from + 3];
      map[to + 5] = blended[from + 4];
      map[to + 6] = blended[from + 5];
    }
  }

  /** Fill the table of T_bk / 2 reach^2: how far the turns on and around each joint are from each key. */
  #measure(turns) {
    const { numKeys, table, keys, parents, around, perAngle } = this;
    const numTurning = parents.length - 1;
    table.fill(0);
    for (let joint = 1; joint < parents.length; joint++) {
      for (let k = 0; k < numKeys; k++) {
        const far = perAngle * angle(turns, 4 * joint, keys, 4 * (k * numTurning + joint - 1)) ** 2;
        table[joint * numKeys + k] += far;
        table[parents[joint] * numKeys + k] += around * far;
        for (let child = joint + 1; child < parents.length; child++) if (parents[child] === joint) table[child * numKeys + k] += around * far;
      }
    }
  }
}

/** The angle between two turns (x, y, z, w), rad. */
function angle(p, i, q, j) {
  const [x, y, z, w] = [-p[i], -p[i + 1], -p[i + 2], p[i + 3]];
  const [a, b, c, d] = [q[j], q[j + 1], q[j + 2], q[j + 3]];
  const across = Math.hypot(w * a + x * d + y * c - z * b, w * b - x * c + y * d + z * a, w * c + x * b - y * a + z * d);
  return 2 * Math.atan2(across, Math.abs(w * d - x * a - y * b - z * c));
}

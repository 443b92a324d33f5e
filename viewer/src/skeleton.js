// From joint rotations to skinning transforms, as model/pose.py does it.
//
// A pose is { turns: J quaternions (x, y, z, w) in one array, place: [x, y, z] metres }. World axes are the body track's.

import { Quaternion } from "three";

/** Quaternion of a rotation vector (axis times angle, rad), written into `out` at `at`. */
export function turnOfVector(x, y, z, out, at) {
  const angle = Math.hypot(x, y, z);
  const share = angle > 1e-8 ? Math.sin(angle / 2) / angle : 0.5;
  out[at] = x * share;
  out[at + 1] = y * share;
  out[at + 2] = z * share;
  out[at + 3] = Math.cos(angle / 2);
}

/** Row-major 3 x 3 of a unit quaternion. */
function matrixOfTurn(q, at) {
  const [x, y, z, w] = [q[at], q[at + 1], q[at + 2], q[at + 3]];
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
    2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
    2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
  ];
}

function product(a, b) {
  const out = new Array(9);
  for (let r = 0; r < 3; r++) for (let c = 0; c < 3; c++) out[3 * r + c] = a[3 * r] * b[c] + a[3 * r + 1] * b[3 + c] + a[3 * r + 2] * b[6 + c];
  return out;
}

export function carry(m, v) {
  return [0, 3, 6].map((r) => m[r] * v[0] + m[r + 1] * v[1] + m[r + 2] * v[2]);
}

/**
 * Skinning transforms of a pose: x -> R_k (x - j_k) + x_k for joint k.
 *
 * Returns { turns: J row-major 3 x 3, shifts: J of [x, y, z], joints: J posed joints }.
 */
export function restToPosed(skeleton, pose) {
  const turns = [], shifts = [], joints = [];
  skeleton.joints.forEach((rest, k) => {
    const parent = skeleton.parents[k];
    const local = matrixOfTurn(pose.turns, 4 * k);
    const turn = parent < 0 ? local : product(turns[parent], local);
    const bone = parent < 0 ? null : carry(turns[parent], rest.map((v, i) => v - skeleton.joints[parent][i]));
    const joint = rest.map((v, i) => (parent < 0 ? v + pose.place[i] : joints[parent][i] + bone[i]));
    const turned = carry(turn, rest);
    turns.push(turn);
    joints.push(joint);
    shifts.push(joint.map((v, i) => v - turned[i]));
  });
  return { turns, shifts, joints };
}

/** The same pose with some joints turned further: `extra` maps a joint to [x, y, z] degrees about its own axes. */
export function turnedFurther(pose, extra) {
  const turns = Float32Array.from(pose.turns);
  const base = new Quaternion(), more = new Quaternion(), raw = [0, 0, 0, 1];
  for (const [joint, degrees] of extra) {
    turnOfVector(...degrees.map((d) => (d * Math.PI) / 180), raw, 0);
    base.fromArray(turns, 4 * joint).multiply(more.fromArray(raw)).toArray(turns, 4 * joint);
  }
  return { turns, place: pose.place };
}

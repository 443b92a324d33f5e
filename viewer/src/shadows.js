// Shadows that the body casts on itself under its lamp, as model/lamp_light.py has them: splats are dropped along the light onto
// a grid that keeps the height of the nearest to the lamp, here when the pose has changed (without folds, and of many splats only
// every second); the graphics card looks each splat up.

import { DataTexture, FloatType, Matrix3, NearestFilter, RedFormat, Vector3 } from "three";

const MANY = 20000; // splats from which on every second one is enough to leave no holes

export const LOOK_UP = `
  float lampShare(sampler2D top, mat3 frame, vec3 first, vec3 center, vec3 normal, float cell, int grid, float bias, float steepest, float mean) {
    float facing = (frame * normal).z;
    if (facing <= 0.0) return -mean;
    vec3 at = frame * (center - first);
    float limit = at.z + bias / max(facing, steepest);
    vec2 place = at.xy / cell - 0.5;
    ivec2 corner = ivec2(floor(place));
    vec2 part = place - floor(place);
    float free = 0.0;
    for (int dy = -1; dy < 3; dy++) {
      float partY = dy == -1 ? 1.0 - part.y : dy == 2 ? part.y : 1.0;
      for (int dx = -1; dx < 3; dx++) {
        float partX = dx == -1 ? 1.0 - part.x : dx == 2 ? part.x : 1.0;
        ivec2 where = (corner + ivec2(dx, dy)) & (grid - 1);
        if (texelFetch(top, where, 0).r < limit) free += partX * partY;
      }
    }
    return facing * free / 9.0 - mean;
  }
`;

export class Shadows {
  /** `record` is the content's "light.lamp"; places, joints and weights are the splats' at rest, as in avatar.js. */
  constructor(record, places, joints, weights) {
    Object.assign(this, { record, places, joints, weights });
    this.known = record.direction.some((v) => v);
    this.top = new Float32Array(this.known ? record.grid ** 2 : 1);
    const side = this.known ? record.grid : 1;
    this.texture = Object.assign(new DataTexture(this.top, side, side, RedFormat, FloatType), { minFilter: NearestFilter, magFilter: NearestFilter });
    this.texture.needsUpdate = true;
    this.frame = new Matrix3(); // rows: two directions across the light, and the one towards the lamp
    this.first = new Vector3(); // where the first splat is, with which the grid lies
  }

  /** Cast them for a pose (as skeleton.js returns it); `unturn` takes the world to the one that the lamp stands in. */
  cast(posed, unturn) {
    if (!this.known) return;
    const rows = this.#turn(unturn);
    const [[ax, ay, az], [bx, by, bz], [dx, dy, dz]] = rows;
    const { cell, grid } = this.record, { top, places, joints, weights } = this;
    // Each joint's transform, in the light's own axes: three rows of a turn and a shift.
    const rigid = posed.turns.map((t, k) => {
      const s = posed.shifts[k];
      return rows.flatMap(([x, y, z]) => [x * t[0] + y * t[3] + z * t[6], x * t[1] + y * t[4] + z * t[7], x * t[2] + y * t[5] + z * t[8], x * s[0] + y * s[1] + z * s[2]]);
    });
    const count = places.length / 3, stride = count > MANY ? 2 : 1;
    let first = null;
    top.fill(-1e30);
    for (let i = 0; i < count; i += stride) {
      const x = places[3 * i], y = places[3 * i + 1], z = places[3 * i + 2];
      let across = 0, along = 0, height = 0;
      for (let n = 4 * i; n < 4 * i + 4; n++) {
        const w = weights[n] / 255;
        if (!w) continue;
        const m = rigid[joints[n]];
        across += w * (m[0] * x + m[1] * y + m[2] * z + m[3]);
        along += w * (m[4] * x + m[5] * y + m[6] * z + m[7]);
        height += w * (m[8] * x + m[9] * y + m[10] * z + m[11]);
      }
      first ??= [across, along, height];
      const column = Math.floor((across - first[0]) / cell - 0.5), row = Math.floor((along - first[1]) / cell - 0.5);
      for (let n = 0; n < 4; n++) {
        const at = ((row + (n >> 1)) & (grid - 1)) * grid + ((column + (n & 1)) & (grid - 1));
        if (height - first[2] > top[at]) top[at] = height - first[2];
      }
    }
    this.texture.needsUpdate = true;
    this.frame.set(ax, ay, az, bx, by, bz, dx, dy, dz);
    this.first.set(...first).applyMatrix3(this.frame.clone().transpose());
  }

  /** The light's axes, turned with it. */
  #turn(unturn) {
    const back = unturn.clone().transpose();
    return this.record.axes.map((axis) => new Vector3(...axis).applyMatrix3(back).toArray());
  }
}

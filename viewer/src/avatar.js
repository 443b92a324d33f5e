// The avatar on the GPU: Spark's linear blend skinning moves the splats, and one more step of ours, in the same shader,
// gives each splat what model/posing.py gives it: round shape, shade by the posed normal, nothing where it faces away; before
// these, what the pose shapes say (folds.js), read from their map at the splat's place.

import { Matrix4, Matrix3, DataArrayTexture, DataTexture, FloatType, RGBAFormat, RGBAIntegerFormat, RGIntegerFormat, UnsignedShortType, Vector3 } from "three";
import { ExtSplats, SplatMesh, SplatSkinning, SplatSkinningMode, dyno, utils } from "@sparkjsdev/spark";
import { bytes, shorts } from "./content.js";
import { Folds } from "./folds.js";
import { LOOK_UP, Shadows } from "./shadows.js";
import { restToPosed } from "./skeleton.js";

const ROUND = [0, 0, 0, 1]; // splats are isotropic: any rotation does
const FULL = 65535;

// Harmonics, lamp and sheen of model/light.py.
const SHADE = `
  vec3 shadeOf(vec3 n, float facing, float share, mat3 light1, mat3 light2, mat3 light3, vec3 lamp, vec3 sheen, float power, float least) {
    vec3 first = sqrt(3.0) * n;
    vec3 second = sqrt(15.0) * vec3(n.x * n.y, n.y * n.z, n.z * n.x);
    vec3 third = vec3(sqrt(5.0) / 2.0 * (3.0 * n.z * n.z - 1.0), sqrt(15.0) / 2.0 * (n.x * n.x - n.y * n.y), 0.0);
    vec3 slow = light1 * first + light2 * second + light3 * third;
    return max(vec3(1.0) + slow + share * lamp + pow(1.0 - clamp(facing, 0.0, 1.0), power) * sheen, vec3(least));
  }
`;

const BLEND = `
  mat3 blendedTurn(usampler2DArray skinTexture, sampler2D boneTexture, int index) {
    uvec4 skin = texelFetch(skinTexture, splatTexCoord(index), 0);
    mat3 turn = mat3(0.0);
    for (int k = 0; k < 4; k++) {
      float weight = float(skin[k] & 0xffu) / 255.0;
      int bone = int(skin[k] >> 8u);
      vec4 a = texelFetch(boneTexture, ivec2(0, bone), 0);
      vec4 b = texelFetch(boneTexture, ivec2(1, bone), 0);
      vec4 c = texelFetch(boneTexture, ivec2(2, bone), 0);
      turn += weight * mat3(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w, c.x);
    }
    return turn;
  }
`;

// Two bilinear samples, of displacement and of change of albedo; a place of the map is two texels side by side.
const READ = `
  void foldsAt(usampler2DArray placeTexture, sampler2D mapTexture, int index, int side, out vec3 move, out vec3 tint) {
    vec2 place = vec2(texelFetch(placeTexture, splatTexCoord(index), 0).xy) / 65535.0 * float(side - 1);
    ivec2 low = min(ivec2(place), ivec2(side - 2));
    vec2 share = place - vec2(low);
    move = tint = vec3(0.0);
    for (int corner = 0; corner < 4; corner++) {
      ivec2 step = ivec2(corner & 1, corner >> 1);
      vec2 part = mix(vec2(1.0) - share, share, vec2(step));
      ivec2 at = low + step;
      move += part.x * part.y * texelFetch(mapTexture, ivec2(2 * at.x, at.y), 0).rgb;
      tint += part.x * part.y * texelFetch(mapTexture, ivec2(2 * at.x + 1, at.y), 0).rgb;
    }
  }
`;

export class AvatarSplats {
  /** `content` as tasks/page_content.py writes it. */
  constructor(content) {
    this.skeleton = content.skeleton;
    const { splats } = content;
    const count = splats.count;
    const places = shorts(splats.places), surface = shorts(splats.surface);
    const albedo = bytes(splats.albedo), joints = bytes(splats.joints), weights = bytes(splats.weights);
    const { maxSplats, width, height, depth } = utils.getTextureSize(count);

    const arrays = [new Uint32Array(4 * maxSplats), new Uint32Array(4 * maxSplats)];
    const [low, high] = splats.bounds;
    const [logLow, logHigh] = splats.log_scales;
    const along = (axis, q) => low[axis] + ((high[axis] - low[axis]) * q) / FULL;
    for (let i = 0; i < count; i++) {
      const scale = Math.exp(logLow + ((logHigh - logLow) * surface[4 * i + 3]) / FULL);
      const place = [0, 1, 2].map((axis) => along(axis, places[3 * i + axis]));
      const color = [0, 1, 2].map((c) => albedo[3 * i + c] / 255);
      utils.encodeExtSplat(arrays, i, ...place, scale, scale, scale, ...ROUND, 1, ...color);
    }

    this.mesh = new SplatMesh({ extSplats: new ExtSplats({ extArrays: arrays, numSplats: count }), covSplats: true, editable: false, raycastable: false });
    this.skinning = new SplatSkinning({ mesh: this.mesh, numSplats: count, numBones: this.skeleton.joints.length, mode: SplatSkinningMode.LINEAR_BLEND });
    for (let i = 0; i < 4 * count; i++) this.skinning.skinData[i] = weights[i] | (joints[i] << 8);
    this.mesh.skinning = this.skinning;

    const ofSplats = (values, channels, format, internalFormat) => {
      const padded = new Uint16Array(channels * maxSplats);
      padded.set(values);
      const texture = new DataArrayTexture(padded, width, height, depth);
      return Object.assign(texture, { format, type: UnsignedShortType, internalFormat, needsUpdate: true });
    };
    this.surface = ofSplats(surface, 4, RGBAIntegerFormat, "RGBA16UI");
    this.folds = content.folds ? new Folds(content.folds, this.skeleton.parents) : null;
    if (this.folds) {
      const { map, side, places } = this.folds;
      this.places = ofSplats(places, 2, RGIntegerFormat, "RG16UI");
      this.foldMap = new DataTexture(map, 2 * side, side, RGBAFormat, FloatType);
      this.foldMap.needsUpdate = true;
    }
    this.folding = this.folds !== null;

    const { harmonics, lamp, sheen } = content.light;
    const rest = Float32Array.from(places, (q, i) => along(i % 3, q));
    this.shadows = new Shadows(lamp, rest, joints, weights);
    const ofChannels = (rows) => new Matrix3().set(...[0, 1, 2].flatMap((channel) => [0, 1, 2].map((k) => (rows[k] ?? [0, 0, 0])[channel])));
    const blocks = [harmonics.slice(0, 3), harmonics.slice(3, 6), harmonics.slice(6)];
    this.light = blocks.map((rows, i) => dyno.uniform(`light${i}`, "mat3", ofChannels(rows)));
    this.lamp = dyno.uniform("lamp", "vec3", new Vector3(...(this.shadows.known ? lamp.strength : [0, 0, 0])));
    this.shadowFrame = dyno.uniform("shadowFrame", "mat3", this.shadows.frame);
    this.shadowFirst = dyno.uniform("shadowFirst", "vec3", this.shadows.first);
    this.sheen = dyno.uniform("sheen", "vec3", new Vector3(...sheen));
    this.ambient = dyno.dynoFloat(1, "lightShare");
    this.unturn = dyno.uniform("unturn", "mat3", new Matrix3());
    this.viewer = dyno.uniform("viewer", "vec3", new Vector3());
    this.mesh.covObjectModifiers = [this.#finish(content.light, content.cull_margin, logLow, logHigh)];
    this.mesh.updateGenerator();
    this.bone = new Matrix4();
  }

  /** Splats after skinning: round, shaded by their posed normals, left out where they face away from the viewer. */
  #finish({ sheen_power: power, least, lamp: { cell, grid, bias, steepest, mean } }, cullMargin, logLow, logHigh) {
    const number = (value) => value.toExponential(9);
    const types = { covsplat: dyno.CovSplat, skinning: this.skinning.uniform.type, surface: "usampler2DArray", viewer: "vec3", unturn: "mat3", share: "float", light1: "mat3", light2: "mat3", light3: "mat3", lamp: "vec3", sheen: "vec3", shadowMap: "sampler2D", shadowFrame: "mat3", shadowFirst: "vec3" };
    const surface = dyno.uniform("surface", "usampler2DArray", this.surface);
    const [light1, light2, light3] = this.light;
    const shadowMap = dyno.uniform("shadowMap", "sampler2D", this.shadows.texture);
    const inputs = { skinning: this.skinning.uniform, surface, viewer: this.viewer, unturn: this.unturn, share: this.ambient, light1, light2, light3, lamp: this.lamp, sheen: this.sheen, shadowMap, shadowFrame: this.shadowFrame, shadowFirst: this.shadowFirst };
    if (this.folds) {
      Object.assign(types, { places: "usampler2DArray", foldMap: "sampler2D", folded: "float" });
      this.folded = dyno.dynoFloat(1, "folded");
      Object.assign(inputs, { places: dyno.uniform("places", "usampler2DArray", this.places), foldMap: dyno.uniform("foldMap", "sampler2D", this.foldMap), folded: this.folded });
    }
    const fold = (i, o) => `
          if (${i.folded} > 0.0) {
            vec3 move, tint;
            foldsAt(${i.places}, ${i.foldMap}, ${o}.index, ${this.folds.side}, move, tint);
            ${o}.center += turn * move;
            ${o}.rgba.rgb = clamp(${o}.rgba.rgb + tint, 0.0, 1.0);
          }`;
    return dyno.dynoBlock({ covsplat: dyno.CovSplat }, { covsplat: dyno.CovSplat }, ({ covsplat }) => {
      const step = new dyno.Dyno({
        inTypes: types,
        outTypes: { covsplat: dyno.CovSplat },
        inputs: { covsplat, ...inputs },
        globals: () => [SHADE, LOOK_UP, BLEND, READ],
        statements: ({ inputs: i, outputs: { covsplat: o } }) => dyno.unindentLines(`
          ${o} = ${i.covsplat};
          uvec4 raw = texelFetch(${i.surface}, splatTexCoord(${o}.index), 0);
          vec3 rest = vec3(raw.xyz) / ${number(FULL / 2)} - 1.0;
          float scale = exp(${number(logLow)} + ${number((logHigh - logLow) / FULL)} * float(raw.w));
          mat3 turn = blendedTurn(${i.skinning}.skinTexture, ${i.skinning}.boneTexture, ${o}.index);
          vec3 normal = normalize(turn * rest);
          ${this.folds ? fold(i, o) : ""}
          float facing = dot(normal, normalize(${i.viewer} - ${o}.center));
          float share = lampShare(${i.shadowMap}, ${i.shadowFrame}, ${i.shadowFirst}, ${o}.center, normal, ${number(cell)}, ${grid}, ${number(bias)}, ${number(steepest)}, ${number(mean)});
          vec3 shade = shadeOf(${i.unturn} * normal, facing, share, ${i.light1}, ${i.light2}, ${i.light3}, ${i.lamp}, ${i.sheen}, ${number(power)}, ${number(least)});
          ${o}.rgba.rgb = clamp(${o}.rgba.rgb * mix(vec3(1.0), shade, ${i.share}), 0.0, 1.0);
          ${o}.xxyyzz = vec3(scale * scale);
          ${o}.xyxzyz = vec3(0.0);
          ${cullMargin === null ? "" : `if (facing <= ${number(-cullMargin)}) { ${o}.flags = 0u; }`}
        `),
      });
      return { covsplat: step.outputs.covsplat };
    });
  }

  /** Take a pose. Returns what skeleton.js says of it. */
  pose(pose) {
    const posed = (this.posed = restToPosed(this.skeleton, pose));
    posed.turns.forEach((turn, k) => {
      const [x, y, z] = posed.shifts[k];
      this.bone.set(turn[0], turn[1], turn[2], x, turn[3], turn[4], turn[5], y, turn[6], turn[7], turn[8], z, 0, 0, 0, 1);
      this.skinning.setBoneMatrix(k, this.bone);
    });
    this.skinning.updateBones();
    if (this.folding) {
      this.folds.blend(pose.turns);
      this.foldMap.needsUpdate = true;
    }
    this.mesh.updateVersion();
    return posed;
  }

  /** Folds that follow the pose, where the avatar has them; off, the person looks alike in all poses. Pose anew after it. */
  fold(on) {
    if (!this.folds) return;
    this.folding = on;
    this.folded.value = on ? 1 : 0;
  }

  /** Where the viewer is, in the mesh's parent's world. */
  seenFrom(position) {
    const local = this.mesh.worldToLocal(position.clone());
    if (local.distanceToSquared(this.viewer.value) < 1e-10) return;
    this.viewer.value.copy(local);
    this.mesh.updateVersion();
  }

  /** "none" for plain colours; else lit, `unturn` (Matrix3) taking the world to the one that the light stays in. */
  lightBy(kind, unturn) {
    this.ambient.value = kind === "none" ? 0 : 1;
    this.unturn.value.copy(unturn);
    if (kind !== "none") this.shadows.cast(this.posed, this.unturn.value);
    this.mesh.updateVersion();
  }
}

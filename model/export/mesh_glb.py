"""The skinned, textured, animated mesh as .glb: what Blender, Unity, Unreal, Godot, three.js and a phone open.

Axes: glTF's, which are the stage's. The mesh is bound in the rest pose, its soles on the floor. Each joint is a node; its
rest turn is the identity, so a node's rotation is SMPL's joint rotation. Lit colours are shown as they are
(KHR_materials_unlit), an albedo by the viewer's lights, as a matt surface.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from model.export.glb import INDEX_DATA, VERTEX_DATA, GlbWriter
from model.export.joint_motion import JointMotion
from model.export.mesh import AvatarMesh
from model.export.png import encode_png

LINEAR, LINEAR_MIPMAPS, CLAMP = 9729, 9987, 33071  # texture filters and wrapping
UNLIT = "KHR_materials_unlit"


def write_mesh_glb(
    mesh: AvatarMesh,
    joint_names: tuple[str, ...],
    parents: list[int],
    joints_rest: Float[np.ndarray, "J 3"],
    motions: list[JointMotion],
    *,
    name: str,
    lift: Float[np.ndarray, "3"],
    unlit: bool,
) -> bytes:
    """Write the mesh with its skeleton and one animation a motion.

    Args:
        joint_names, parents, joints_rest: the skeleton; -1 for the root, which comes first.
        name: of the mesh.
        lift: added to mesh and joints so that the soles stand on the floor, metres.
        unlit: whether the texture holds light already.
    """
    writer = GlbWriter()
    joints_rest = np.asarray(joints_rest, np.float64) + lift
    count = len(parents)
    primitive = {
        "attributes": {
            "POSITION": writer.accessor((mesh.vertices + lift).astype(np.float32), target=VERTEX_DATA, bounds=True),
            "NORMAL": writer.accessor(mesh.normals.astype(np.float32), target=VERTEX_DATA),
            "TEXCOORD_0": writer.accessor(mesh.uv.astype(np.float32), target=VERTEX_DATA),
            "JOINTS_0": writer.accessor(_four(mesh.skin_joints * (mesh.skin_weights > 0)).astype(np.uint8), target=VERTEX_DATA),
            "WEIGHTS_0": writer.accessor(_weights(mesh.skin_weights), target=VERTEX_DATA),
        },
        "indices": writer.accessor(mesh.faces.astype(np.uint32).ravel(), target=INDEX_DATA),
        "material": 0,
    }
    inverse_binds = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    inverse_binds[:, :3, 3] = -joints_rest
    offsets = np.array([place - (0 if parent < 0 else joints_rest[parent]) for place, parent in zip(joints_rest, parents, strict=True)])
    nodes = [{"name": joint, "translation": offset.tolist()} for joint, offset in zip(joint_names, offsets, strict=True)]
    for joint, parent in enumerate(parents[1:], start=1):
        nodes[parent].setdefault("children", []).append(joint)
    nodes.append({"name": name, "mesh": 0, "skin": 0})
    texture = writer.view(encode_png(mesh.texture))
    material = {
        "name": "skin and clothes",
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0.0, "roughnessFactor": 1.0},
    }
    writer.document |= {
        "scene": 0,
        "scenes": [{"nodes": [0, count]}],
        "nodes": nodes,
        "skins": [{"joints": list(range(count)), "skeleton": 0, "inverseBindMatrices": writer.accessor(inverse_binds)}],
        "meshes": [{"name": name, "primitives": [primitive]}],
        "materials": [material | ({"extensions": {UNLIT: {}}} if unlit else {})],
        "textures": [{"source": 0, "sampler": 0}],
        "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAPS, "wrapS": CLAMP, "wrapT": CLAMP}],
        "images": [{"bufferView": texture, "mimeType": "image/png", "name": "texture"}],
    }
    if unlit:
        writer.document["extensionsUsed"] = [UNLIT]
    if motions:
        writer.document["animations"] = [_animation(writer, motion) for motion in motions]
    return writer.to_bytes()


def _animation(writer: GlbWriter, motion: JointMotion) -> dict:
    """Keys of every joint's turn and of the root's place, at the motion's own frames."""
    times = writer.accessor((np.arange(motion.num_frames) / motion.fps).astype(np.float32), bounds=True)
    samplers, channels = [], []

    def animate(joint: int, path: str, values: np.ndarray) -> None:
        channels.append({"sampler": len(samplers), "target": {"node": joint, "path": path}})
        samplers.append({"input": times, "output": writer.accessor(values.astype(np.float32)), "interpolation": "LINEAR"})

    animate(0, "translation", motion.root_places)
    for joint in range(motion.quaternions.shape[1]):
        animate(joint, "rotation", motion.quaternions[:, joint])
    return {"name": motion.name, "samplers": samplers, "channels": channels}


def _weights(weights: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P 4"]:
    """Four float32 weights a vertex whose sum is 1 to float32's last digits."""
    four = _four(weights).astype(np.float32)
    return four / four.sum(1, keepdims=True)


def _four(columns: np.ndarray) -> np.ndarray:
    """The columns, filled up with zeros to four."""
    return np.pad(columns, ((0, 0), (0, 4 - columns.shape[1])))

"""A parametric body: shape and pose in, posed surface and joints out. The one door to smplx.

Axes: *B leading (frames, people), V vertices, T triangles, J joints (the root is joint 0), K = J - 1 the other joints,
S shape coefficients, U uv coordinates, P pose features, C pose correctives, W = 3 V. Lengths are metres, rotations
axis-angle radians. The rest pose is SMPL's: a T-pose, y up, facing +z, the left hand towards +x. UV: u runs to the
right and v *down*, so that row 0 of an image lies at v = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from smplx.lbs import batch_rigid_transform, batch_rodrigues, blend_shapes
from smplx.vertex_ids import vertex_ids as EXTRA_VERTEX_IDS
from torch import Tensor

from model.body.body_files import BodyArrays, BodyFileError, read_body_file, read_open_body
from model.body.bone_lengths import bone_length_directions
from model.body.landmarks import LANDMARK_NAMES, LandmarkWeights, landmark_weights_of
from model.body.skinning import skin_points

LEGS_APART = torch.pi / 6  # each leg, rad: the canonical pose of GaussianAvatar (Hu et al. 2024, section 4)


@dataclass(frozen=True)
class PosedBody:
    """A body carried into a pose.

    Attributes:
        vertices: posed surface, metres, world.
        joints: posed joints, metres, world.
        rest_to_posed: transform of each joint from the rest pose to the world, translation included.
    """

    vertices: Float[Tensor, "*B V 3"]
    joints: Float[Tensor, "*B J 3"]
    rest_to_posed: Float[Tensor, "*B J 4 4"]


@dataclass(frozen=True)
class BodyModel:
    """A body model's arrays, and what can be computed from them. Nothing here is learnt; gradients flow to the inputs.

    Attributes:
        name: "open", or the stem of the model file.
        joint_names, beta_names: what joints and shape coefficients are called; the model file's own coefficients come first,
            then bone lengths (bone_lengths.py).
        parents: parent of each joint; -1 at the root.
        faces: triangles, counter-clockwise seen from outside.
        lbs_weights: share of each joint in each vertex; rows sum to 1.
        uv, uv_faces: uv coordinates and, for each triangle, its three of them; None where the file has none.
        landmark_weights: how the 33 BlazePose landmarks are made of vertices and joints.
        v_template, shapedirs: mean surface and its change per unit of each coefficient, metres.
        j_template, j_shapedirs: the same of the joints, from the regressor (joints are linear in the shape).
        posedirs: pose correctives, metres; None where there are none.
        pose_basis: their coefficients by pose feature (joint rotations - identity); None where each feature has its own.
        face_weights: the 51 face landmarks of SMPL-X's files as blends of vertices; None for other bodies.
    """

    name: str
    joint_names: tuple[str, ...]
    beta_names: tuple[str, ...]
    parents: Int[Tensor, "J"]
    faces: Int[Tensor, "T 3"]
    lbs_weights: Float[Tensor, "V J"]
    uv: Float[Tensor, "U 2"] | None
    uv_faces: Int[Tensor, "T 3"] | None
    landmark_weights: LandmarkWeights
    v_template: Float[Tensor, "V 3"]
    shapedirs: Float[Tensor, "V 3 S"]
    j_template: Float[Tensor, "J 3"]
    j_shapedirs: Float[Tensor, "J 3 S"]
    posedirs: Float[Tensor, "C W"] | None
    pose_basis: Float[Tensor, "P C"] | None
    face_weights: LandmarkWeights | None = None

    landmark_names = LANDMARK_NAMES

    @property
    def num_joints(self) -> int:
        return self.parents.shape[0]

    @property
    def num_betas(self) -> int:
        return self.shapedirs.shape[-1]

    @property
    def num_vertices(self) -> int:
        return self.v_template.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.v_template.dtype

    @property
    def device(self) -> torch.device:
        return self.v_template.device

    def require_uv(self) -> tuple[Float[Tensor, "U 2"], Int[Tensor, "T 3"]]:
        """The UV layout, for who cannot do without.

        Raises:
            BodyFileError: the model file has none (SMPL's never do) and no `uv_path` was given.
        """
        if self.uv is None or self.uv_faces is None:
            raise BodyFileError(f"{self.name} has no UV layout; give the model's UV .obj (SMPL offers one for download) or an .npz with vt and ft as uv_path (setting body.uv)")
        return self.uv, self.uv_faces

    def rest(self, betas: Float[Tensor, "*B S_given"]) -> tuple[Float[Tensor, "*B V 3"], Float[Tensor, "*B J 3"]]:
        """Shape the surface and its joints in the rest pose.

            v = v_template + sum_s betas_s shapedirs_s          SMPL, Loper et al. 2015, eq. 8

        Args:
            betas: the first coefficients; those left out are 0.

        Returns:
            Vertices and joints, metres. Differentiable.
        """
        batch, given = betas.shape[:-1], betas.shape[-1]
        flat = betas.reshape(-1, given)
        vertices = self.v_template + blend_shapes(flat, self.shapedirs[..., :given])
        joints = self.j_template + blend_shapes(flat, self.j_shapedirs[..., :given])
        return vertices.reshape(*batch, -1, 3), joints.reshape(*batch, -1, 3)

    def joint_transforms(
        self,
        joints_rest: Float[Tensor, "*#B J 3"],
        global_orient: Float[Tensor, "*#B 3"],
        body_pose: Float[Tensor, "*#B K 3"],
        transl: Float[Tensor, "*#B 3"],
    ) -> Float[Tensor, "*B J 4 4"]:
        """Rigid transform of each joint from the rest pose to the world: rest_to_posed.

        The root turns about its own joint, then `transl` is added, as in SMPL. Shapes broadcast over *B.

        Returns:
            Transforms that carry rest points; differentiable in all inputs.
        """
        return self._transforms(joints_rest, global_orient, body_pose, transl)[0]

    def pose(
        self,
        betas: Float[Tensor, "*#B S_given"],
        global_orient: Float[Tensor, "*#B 3"],
        body_pose: Float[Tensor, "*#B K 3"],
        transl: Float[Tensor, "*#B 3"],
    ) -> PosedBody:
        """Carry the shaped body into a pose.

        Args:
            betas: one shape for all of *B ([S]) or one each.
            global_orient, body_pose: rotations of the root and, relative to their parents, of the other joints.
            transl: added after skinning, metres.

        Returns:
            Surface, joints and joint transforms; differentiable in all inputs.
        """
        vertices, joints = self.rest(betas)
        rest_to_posed, rotations = self._transforms(joints, global_orient, body_pose, transl)
        batch = rest_to_posed.shape[:-3]
        if self.posedirs is not None:
            feature = (rotations[..., 1:, :, :] - torch.eye(3, dtype=self.dtype, device=self.device)).reshape(*batch, -1)
            feature = feature if self.pose_basis is None else feature @ self.pose_basis
            vertices = vertices + (feature @ self.posedirs).reshape(*batch, -1, 3)
        vertices = skin_points(vertices, self.lbs_weights, rest_to_posed)
        joints = (rest_to_posed[..., :3, :3] @ joints[..., None])[..., 0] + rest_to_posed[..., :3, 3]
        return PosedBody(vertices, joints, rest_to_posed)

    def landmarks(self, vertices: Float[Tensor, "*B V 3"], joints: Float[Tensor, "*B J 3"]) -> Float[Tensor, "*B 33 3"]:
        """Where BlazePose puts its 33 landmarks on this posed body, metres. Differentiable."""
        return self.landmark_weights.apply(vertices, joints)

    def subset(self, vertex_ids: Int[Tensor, "N"]) -> BodyModel:
        """The same body with only some of its vertices, in the order given: cheaper to pose.

        Triangles that lose a corner go, and so do landmarks' vertices: `landmarks` needs
        `model.landmark_weights.vertex_ids` among the vertices kept, and says so otherwise.
        """
        vertex_ids = vertex_ids.to(self.device)
        new_id = torch.full((self.num_vertices,), -1, dtype=torch.long, device=self.device)
        new_id[vertex_ids] = torch.arange(len(vertex_ids), device=self.device)
        faces = new_id[self.faces]
        whole = (faces >= 0).all(dim=-1)
        posedirs = None if self.posedirs is None else self.posedirs.unflatten(-1, (-1, 3))[:, vertex_ids].flatten(-2)
        return replace(
            self,
            faces=faces[whole],
            uv_faces=None if self.uv_faces is None else self.uv_faces[whole],
            lbs_weights=self.lbs_weights[vertex_ids],
            v_template=self.v_template[vertex_ids],
            shapedirs=self.shapedirs[vertex_ids],
            posedirs=posedirs,
            landmark_weights=self.landmark_weights.renumber(new_id),
            face_weights=None if self.face_weights is None else self.face_weights.renumber(new_id),
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> BodyModel:
        """The same body on another device or in another floating type."""

        def move(value: object) -> object:
            if isinstance(value, LandmarkWeights):
                return LandmarkWeights(*(move(getattr(value, name)) for name in value.__dataclass_fields__))
            if not isinstance(value, Tensor):
                return value
            return value.to(device=device, dtype=dtype if value.is_floating_point() else None)

        return replace(self, **{name: move(getattr(self, name)) for name in self.__dataclass_fields__})

    def _transforms(
        self, joints_rest: Tensor, global_orient: Tensor, body_pose: Tensor, transl: Tensor
    ) -> tuple[Float[Tensor, "*B J 4 4"], Float[Tensor, "*B J 3 3"]]:
        """Joint transforms and local rotations, over the broadcast of all leading axes."""
        num_joints = self.num_joints
        batch = torch.broadcast_shapes(joints_rest.shape[:-2], global_orient.shape[:-1], body_pose.shape[:-2], transl.shape[:-1])
        full_pose = torch.cat([global_orient.expand(*batch, 3).unsqueeze(-2), body_pose.expand(*batch, num_joints - 1, 3)], dim=-2)
        rotations = batch_rodrigues(full_pose.reshape(-1, 3)).reshape(-1, num_joints, 3, 3)
        joints_flat = joints_rest.expand(*batch, num_joints, 3).reshape(-1, num_joints, 3)
        _, transforms = batch_rigid_transform(rotations, joints_flat, self.parents, dtype=self.dtype)
        shift = torch.nn.functional.pad(transl.expand(*batch, 3).reshape(-1, 1, 3, 1), (3, 0, 0, 1))
        return (transforms + shift).reshape(*batch, num_joints, 4, 4), rotations.reshape(*batch, num_joints, 3, 3)


def load_body_model(
    model: str | Path = "open",
    *,
    uv_path: str | Path | None = None,
    num_betas: int = 10,
    num_expressions: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> BodyModel:
    """Load the body that ships with the project, or a user's SMPL, SMPL-H or SMPL-X file.

    Args:
        model: "open", or a path to a .npz or .pkl model file. Pickles are read through an allow-list.
        uv_path: an .obj, or an .npz with `vt` and `ft`, that holds the model's UV layout (SMPL files have none).
        num_betas: shape coefficients to keep of a user's model; bone lengths are added to them.
        num_expressions: SMPL-X only: expression coefficients, appended to the betas.

    Raises:
        BodyFileError: the file is missing, of another kind, or lacks what a body needs.
        UnsafePickleError: a pickle asks for a class outside the allow-list.
    """
    if str(model) == "open":
        arrays = read_open_body()
    else:
        arrays = read_body_file(
            Path(model),
            uv_path=None if uv_path is None else Path(uv_path),
            num_betas=num_betas,
            num_expressions=num_expressions,
            extra_vertex_ids=EXTRA_VERTEX_IDS,
        )
    return body_model_from_arrays(arrays).to(device=device, dtype=dtype)


def body_model_from_arrays(arrays: BodyArrays) -> BodyModel:
    """Build the model, float64 on the CPU, from what a file held."""
    floats = lambda array: torch.as_tensor(array, dtype=torch.float64)  # noqa: E731
    integers = lambda array: torch.as_tensor(array.astype("int64"))  # noqa: E731
    v_template, shapedirs, regressor = floats(arrays.v_template), floats(arrays.shapedirs), arrays.J_regressor
    num_betas = shapedirs.shape[-1]
    j_shapedirs = floats(regressor @ arrays.shapedirs.reshape(len(v_template), -1).astype("float64")).reshape(-1, 3, num_betas)
    posedirs = None if arrays.posedirs is None else floats(arrays.posedirs).reshape(len(v_template) * 3, -1).T.contiguous()
    j_template, parents, lbs_weights = floats(regressor @ arrays.v_template.astype("float64")), integers(arrays.parents), floats(arrays.weights)
    lengthen, j_lengthen, length_names = bone_length_directions(v_template, j_template, parents, lbs_weights, arrays.joint_names)
    return BodyModel(
        name=arrays.name,
        joint_names=arrays.joint_names,
        beta_names=arrays.beta_names + length_names,
        parents=parents,
        faces=integers(arrays.faces),
        lbs_weights=lbs_weights,
        uv=None if arrays.uv is None else floats(arrays.uv),
        uv_faces=None if arrays.uv_faces is None else integers(arrays.uv_faces),
        landmark_weights=landmark_weights_of(arrays),
        v_template=v_template,
        shapedirs=torch.cat([shapedirs, lengthen], -1),
        j_template=j_template,
        j_shapedirs=torch.cat([j_shapedirs, j_lengthen], -1),
        posedirs=posedirs,
        pose_basis=None if arrays.pose_basis is None else floats(arrays.pose_basis),
        face_weights=None if arrays.face_points is None else _blends_of_vertices(*arrays.face_points, num_joints=len(parents)),
    )


def _blends_of_vertices(ids: np.ndarray, weights: np.ndarray, *, num_joints: int) -> LandmarkWeights:
    joint_weights = torch.zeros(len(ids), num_joints, dtype=torch.float64)
    return LandmarkWeights(torch.as_tensor(ids), torch.as_tensor(weights), joint_weights)


def canonical_pose(model: BodyModel) -> Float[Tensor, "K 3"]:
    """The body pose in which avatars are modelled: arms as in the T-pose, each leg 30 degrees to its side."""
    pose = torch.zeros(model.num_joints - 1, 3, dtype=model.dtype, device=model.device)
    pose[model.joint_names.index("left_hip") - 1, 2] = LEGS_APART
    pose[model.joint_names.index("right_hip") - 1, 2] = -LEGS_APART
    return pose

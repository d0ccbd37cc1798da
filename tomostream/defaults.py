"""Every default, once, with its unit.  The configuration, the command line and the Python functions all take it from here."""

from typing import Final

# storage
CHUNK_VOX: Final = 64  # edge of a Zarr chunk, voxels
SHARD_VOX: Final = 256  # edge of a Zarr shard, voxels
CODEC: Final = "none"  # lossless compression of float noise saves 7-20 % and costs twice the read time
DTYPE: Final = "keep"  # the source's own type

# resources
MEMORY: Final = "2GB"  # budget of one process, libraries included
WORKERS: Final = 1  # processes
CLUSTER: Final = "none"
DASHBOARD: Final = "127.0.0.1:0"  # where Dask's dashboard listens: this machine only, any free port
WALLTIME: Final = "04:00:00"  # of a job
JOB_CORES: Final = 4  # of a process in a job

# normalisation
CLIP_SIGMA: Final = 3.0  # standard deviations at which the standardised volume is clipped

# labels and network input
CHECK: Final = "stop"  # clicks that lie on nothing
LABEL_SHAPE: Final = "sphere"
MIN_RADIUS_VOX: Final = 4.0  # level auto: the coarsest pyramid level at which the smallest radius keeps this many voxels

# network
CHANNELS: Final = (8, 16, 32)  # channels of the levels of the residual U-Net, finest first; twice as many find no more from ten clicks
LEVEL: Final = "auto"  # pyramid level that the network reads
BACKBONE: Final = "auto"  # pretrained weights where left-out clicks, or the strategy, call for them
BATCH_STATISTICS: Final = "tomogram"  # batch-norm's, in prediction: each tomogram's own (docs/measurements.md)
STATISTICS_CROPS: Final = 32  # crops of a tomogram that they come from: 12 and 64 gave the same F1 within 0.01

# training
OBJECTIVE: Final = "nnpu"  # from ten clicks it overfits less than kl (docs/measurements.md)
KL_WEIGHT: Final = 10.0  # weight of the divergence term (Topaz's GE-KL)
KL_ORDER: Final = "prior_to_pu"  # KL(prior || mean score of the unlabelled); the other order is the paper's
SCHEDULE: Final = "cosine"
SYMMETRY: Final = "cube"  # augmentation: the 48 rotations and reflections of the cube
CROP_VOX: Final = 40  # edge of a training crop, voxels of the network's pyramid level
BATCH: Final = 4  # crops a step
STEPS: Final = 400  # optimisation steps
STEPS_PER_CLICK: Final = 12  # ... where that is more
MOST_STEPS: Final = 1200  # ... and at most this many
STEPS_FROM_A_MODEL: Final = 100  # ... where training goes on from a model
STEPS_PER_EPOCH: Final = 50  # steps between validations and checkpoints
LABELLED_FRACTION: Final = 0.5  # share of crops that are drawn around labels
PASTED: Final = 0.7  # share of the uniform crops that get a copy of a clicked particle (docs/measurements.md)
PASTED_CONTRAST: Final = (0.75, 1.05)  # its densities are multiplied by a random factor between these
LEARNING_RATE: Final = 1e-3
SEED: Final = 0
TOGETHER: Final = False  # one model for all species
PRECISION: Final = "auto"  # training: bf16 where the processor has it, else float32

# prediction: float32, so that scores of different block shapes agree to 1e-4 of the logits
PREDICT_PRECISION: Final = "float32"
SCORE_DTYPE: Final = "float32"
SCORE_GRID: Final = "tomogram"  # other software sees the scores themselves
KEEP: Final = "scores"  # the workbench and the report show the whole map
DEVICE: Final = "auto"  # a GPU if there is one

# model and tomogram of different voxel spacing
SPACING_WARN: Final = 0.03  # relative difference above which predict warns
SPACING_STOP: Final = 0.15  # ... and above which it stops

# points
INSIDE_FRACTION: Final = 0.95  # share of the points that must lie in the volume (catches swapped axes and units)
# voxels by which a point may lie outside and still count as inside: origins that differ by half or a whole voxel, rounded angstrom
OVERSHOOT_VOX: Final = 1.0

# evaluation
TOLERANCE: Final = "10vox"  # the paper's distance for a match
PICKER: Final = "greedy"  # of arrays, and of score maps that name none
MATCHING: Final = "any"  # the paper's rule; one-to-one is the stricter

# export
MARKER_RADIUS_ANG: Final = 50.0  # of ChimeraX's markers, where no box is given: seen in a whole tomogram, smaller than most particles

# training, further
WEIGHT_DECAY: Final = 1e-4
RECALIBRATION_CROPS: Final = 64  # uniform crops over which the batch-norm statistics are taken before a network is used
REJECTED_WEIGHT: Final = 0.0  # of a place labelled 0 beside a click, in the network's loss; 1 did not help (docs/measurements.md)
REJECTED_CROPS: Final = 0.5  # of the uniform crops, those that are drawn around such places instead, at most
EXPECTED_PER_CLICK: Final = 10  # particles per click, if the expected number is not given (validation only)

# matched filter beside the network (docs/measurements.md)
MATCHED_WEIGHT: Final = 1.5  # of a correlation that ranks left-out clicks well; both in units of their standard deviation
MATCHED_FLOOR: Final = 0.4  # as NORMALISATION_FLOOR; smaller, because the network refuses empty places by itself
MATCHED_SMOOTH: Final = 0.4  # radius of the ball over which the network's logits are averaged, of the particle's radius
FACE_SMOOTH: Final = 0.3  # standard deviation of the Gaussian that shows streaks near the faces, of the particle's radius
FACE_REACH: Final = 1.2  # distance from a face up to which scores give way to streaks, of the particle's radius
FACE_NOISE: Final = 2.0  # spread of a line near a face above which they do, of that of the lines inside
UNLABELLED_TOMOGRAMS: Final = 8  # tomograms without labels that the network learns from too, at most

# suggest
SUGGESTED_POINTS: Final = 10  # places to look at next: as many as a person clicks in a minute

# matched filters (strategies average and template), as measured on two simulated tomograms of each kind (docs/measurements.md)
LOOK_ALIKES: Final = 1.0  # weight of the profiles that tell particles from look-alikes among the best picks (`unet.populations`)
SUPPORT: Final = 1.4  # radius of the ball that is compared, of the particle's radius
NORMALISATION_FLOOR: Final = 0.6  # standard deviations of the volume: between local normalisation (0) and a plain matched filter (large)
ANGLE_STEP_DEG: Final = 20.0  # between orientations of a template
TILT_RANGE_DEG: Final = (-60.0, 60.0)
TILT_AXIS: Final = "y"
TEMPLATE_SEARCH: Final = "rotations"  # `tensor` is twenty times as fast, and loses 0.01 to 0.07 of F1 (docs/measurements.md)

# deepetpicker: its paper's recipe in a processor's minutes; the first four stand in for the U-Net's own where the configuration says nothing
DEEPETPICKER_CHANNELS: Final = (8, 16, 24, 36)
DEEPETPICKER_CROP_VOX: Final = 72  # edge of crops and patches, voxels of the network's level
DEEPETPICKER_BATCH: Final = 1  # crops a step: one holds as many voxels as four or five of the U-Net's
DEEPETPICKER_LEARNING_RATE: Final = 2e-3
PATCH_PADDING_VOX: Final = 12  # on each side of a patch, only looked at
CORE_LABEL: Final = 0.6  # radius of a label, of the particle's
DEEPETPICKER_RECALIBRATION_CROPS: Final = 12  # uniform crops for the batch statistics: large ones, so fewer

# slices2d: a small detector; the first three stand in for the U-Net's own where the configuration says nothing
SLICES2D_CHANNELS: Final = (24, 48, 96)
SLICES2D_CROP_VOX: Final = 64  # edge of a slab along y and x, voxels of the network's level
SLICES2D_LABEL_HEIGHT: Final = 0.6  # radii above and below a centre: the slices with a box
SLICES2D_OBJECT_WEIGHT: Final = 5.0  # of the parts of the single-shot loss
SLICES2D_BACKGROUND_WEIGHT: Final = 1.0
SLICES2D_CENTRE_WEIGHT: Final = 1.0
SLICES2D_CLASS_WEIGHT: Final = 1.0

# tracing boxes through slices, in radii of the particle
TRACE_DISTANCE: Final = 0.8  # boxes of one slice lie farther apart
TRACE_LINK: Final = 0.3  # a trace goes on at most this far, in y and x
TRACE_GAP: Final = 0.2  # slices that a trace may miss
TRACE_SHORTEST: Final = 0.3  # slices with a box that a trace has at least
TRACE_SPANNED: Final = 1.0  # with a count: this many boxes per pick are traced, the best ones
TRACE_SCORE: Final = "max"

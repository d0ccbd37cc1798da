"""Objectives for voxels that nobody has labelled: PN, nnPU, KL and GE-binomial, per species.

P are the voxels in labelled spheres, U all others: particles not clicked, and background.  f is the score (sigmoid of the logit), L
the binary cross-entropy, pi the fraction of labelled voxels, pi' the expected fraction of particle voxels, and
pi'' = (pi' - pi) / (1 - pi) that among U.

    PN     pi E_P[L(f,1)] + (1 - pi) E_U[L(f,0)]            every unlabelled voxel counts as background
    nnPU   R = pi' R_P+ + B                                  with R_P+ = E_P[L(f,1)] and the background's risk
           B = (1 - pi) E_U[L(f,0)] - (pi' - pi) E_P[L(f,0)]: that of the unlabelled voxels, less that of the hidden particles among them;
           where B < 0 (overfitting: no risk is negative) the step is on -B instead
    KL     E_P[L(f,1)] + weight D                            D between Bernoullis: KL(E_U[f] || pi'') (`pu_to_prior`, the paper's) or
                                                             KL(pi'' || E_U[f]) (`prior_to_pu`, Topaz's)

    GE     E_P[L(f,1)] + weight H                           H: cross-entropy between the number of particles among a batch's unlabelled voxels
                                                             as the scores have it, and Binomial(n, pi'') (Topaz's GE-binomial)

1. E_P and E_U are means weighted by the batch's inclusion weights (self-normalised), so that they estimate means over the volume
   although crops are drawn around labels.
2. A batch without labelled voxels of a species has no E_P: the terms that need it are left out.
3. Each species has its own risk, prior and output; the risks are added.  Those of PN and nnPU are in proportion to the prior, and a rare
   species' would be drowned by a frequent one's: each is divided by its prior over the largest one.
4. Kiryo's E_U is over all voxels, labelled ones too: pi E_P + (1 - pi) E_U here, whence (pi' - pi). The paper subtracts pi' E_P from the
   unlabelled voxels alone: the same where few are labelled, too much where many are.
5. Where pi' <= pi there is nothing unlabelled to find: that species is trained by PN, and `notes` says so.
6. GE-binomial counts particles, not voxels (neighbouring voxels belong to one particle): n is the batch's unlabelled voxels over those of a
   particle, and H = E_k[-log Binomial(k; n, pi'')] for k of the scores' Gaussian: mean n E_U[f], variance n E_U[f (1 - f)].
7. Where several processes train together, all sums go over all processes' batches (`processes.total`): the loss of one with the whole batch.

Limits: the self-normalised mean of one batch is biased by O(1 / crops), and D is not linear in E_U: batches of few crops press
the mean score of each batch, not only that of the volume, towards the prior.

References
----------
Kiryo, Niu, du Plessis, Sugiyama 2017, "Positive-unlabeled learning with non-negative risk estimator" (nnPU); Bepler et al. 2019,
"Positive-unlabeled convolutional neural networks for particle picking in cryo-electron micrographs" (Topaz; GE-KL, after Mann and
McCallum 2010).
"""

from tomostream.learn.objectives.making import OBJECTIVES, make_objective
from tomostream.learn.objectives.risk import Criterion, Expectations, Kind, Loss, Objective, Prior, Risk

__all__ = ["OBJECTIVES", "Criterion", "Expectations", "Kind", "Loss", "Objective", "Prior", "Risk", "make_objective"]

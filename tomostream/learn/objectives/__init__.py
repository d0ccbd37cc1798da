"""Objectives for partly labelled volumes: PN, nnPU, KL and GE-binomial, per species.

P is the set of labelled voxels, U that of all others: background, and particles that were not clicked.  f is the score (sigmoid of the
logit), L the binary cross-entropy, pi the fraction of labelled voxels, pi' the expected fraction of particle voxels, and
pi'' = (pi' - pi) / (1 - pi) the expected fraction of particle voxels in U.

    PN     pi E_P[L(f,1)] + (1 - pi) E_U[L(f,0)]            every unlabelled voxel counts as background
    nnPU   R = pi' R_P+ + B                                  with R_P+ = E_P[L(f,1)] and the background's risk
           B = (1 - pi) E_U[L(f,0)] - (pi' - pi) E_P[L(f,0)]: that of the unlabelled voxels, minus that of the hidden particles in U;
           if B < 0, which is overfitting since no risk is negative, the step is on -B instead
    KL     E_P[L(f,1)] + weight D                            D between Bernoullis: KL(E_U[f] || pi'') (`pu_to_prior`, the paper's) or
                                                             KL(pi'' || E_U[f]) (`prior_to_pu`, Topaz's)

    GE     E_P[L(f,1)] + weight H                            H: cross-entropy between the distribution of the number of particles in U that
                                                             the scores imply, and Binomial(n, pi'') (Topaz's GE-binomial)

Each may have a term of places that a person rejected, c E_N[L(f,0)] (`known_negatives`).

1. E_P and E_U are means weighted by the batch's inclusion weights (self-normalised), so that they estimate means over the volume
   although crops are drawn around labels.
2. In a batch without labelled voxels of a species, the terms with E_P are left out.
3. Each species has its own risk, prior and output; the risks are added.  The risks of PN and nnPU are proportional to the prior, so that a
   frequent species would dominate a rare one; each is therefore divided by its prior over the largest prior.
4. Kiryo's E_U is over all voxels, labelled ones included, which is pi E_P + (1 - pi) E_U here; hence the factor (pi' - pi).  The TomoPicker
   paper subtracts pi' E_P from the unlabelled voxels alone: the same if few voxels are labelled, too much if many are.
5. If pi' <= pi there is nothing unlabelled to find: that species is trained by PN, and `notes` says so.
6. GE-binomial counts particles, not voxels, since neighbouring voxels belong to one particle.  n is the number of unlabelled voxels over
   the voxels of a particle, and H = E_k[-log Binomial(k; n, pi'')], where k has the Gaussian distribution that the scores imply, with mean
   n E_U[f] and variance n E_U[f (1 - f)].
7. If several processes train together, all sums go over the batches of all of them (`processes.total`), so the loss is that of one process
   with the whole batch.

Limits: the self-normalised mean of one batch is biased by O(1 / crops), and D is not linear in E_U.  So with few crops in a batch the mean
score of each batch, not only that of the volume, is pulled towards the prior.

References
----------
Sakai, du Plessis, Niu, Sugiyama 2017, "Semi-supervised classification based on classification from positive and unlabeled data".
Kiryo, Niu, du Plessis, Sugiyama 2017, "Positive-unlabeled learning with non-negative risk estimator" (nnPU); Bepler et al. 2019,
"Positive-unlabeled convolutional neural networks for particle picking in cryo-electron micrographs" (Topaz; GE-KL, after Mann and
McCallum 2010).
"""

from tomostream.learn.objectives.known_negatives import KnownNegatives
from tomostream.learn.objectives.making import OBJECTIVES, make_objective
from tomostream.learn.objectives.risk import Criterion, Expectations, Kind, Loss, Objective, Prior, Risk

__all__ = ["OBJECTIVES", "Criterion", "Expectations", "Kind", "KnownNegatives", "Loss", "Objective", "Prior", "Risk", "make_objective"]

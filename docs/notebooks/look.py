# %% [markdown]
# # Look at a tomogram
#
# A tomogram is opened without being read; voxels come where it is indexed.

# %%
import tomostream as ts

tomogram = ts.open("data/TS_01.mrc")
tomogram

# %% [markdown]
# A slice, and the statistics that training uses.

# %%
import matplotlib.pyplot as plt

plt.imshow(tomogram[20], cmap="gray")
plt.title(f"z = 20, {tomogram.spacing:g} A per voxel")
ts.statistics(tomogram)

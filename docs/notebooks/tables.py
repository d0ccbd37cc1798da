# %% [markdown]
# # Tables of particles
#
# One table for all formats; pandas in and out.

# %%
import tomostream as ts

picks = ts.read_particles("my-project/picks/TS_01.csv")
picks

# %%
table = picks.to_dataframe()
table.describe()

# %% [markdown]
# The best half, for RELION 5. What a format needs to know, and the table does not say, is asked for.

# %%
best = ts.Particles.from_dataframe(table.nlargest(len(table) // 2, "score"))
ts.write_particles("best.star", best, format="star-relion5", tomograms=["my-project/tomograms/TS_01.ome.zarr"])
print(open("best.star").read()[:300])

# %% [markdown]
# # Pick again
#
# Scores stay; how many picks are taken from them is decided afterwards, and compared with the truth where there is one.

# %%
import tomostream as ts

scores = ts.open("my-project/scores/TS_01.ome.zarr")
found = {count: ts.pick(scores, radius="40A", count=count) for count in (10, 20, 30)}
found[20]

# %%
for count, picks in found.items():
    result = ts.evaluate(picks, "truth.csv", tolerance="40A")
    print(count, result.pooled)

"""tomostream in a real napari, on a virtual screen (its images need OpenGL): what is dropped on the window, the panel, and what is saved."""

import os
import threading
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from store_files import write_store

import tomostream as ts
from tomostream.formats.registry import Conversion, read_table

pytestmark = [pytest.mark.napari, pytest.mark.filterwarnings("default")]
SPACING = 10.0

if os.environ.get("TOMOSTREAM_NEEDS_NAPARI"):
    import napari
else:
    napari = pytest.importorskip("napari", reason="napari is not installed (pip install 'tomostream[napari]' pyqt6)")


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A project folder: a tomogram of noise, and picks."""
    folder = tmp_path_factory.mktemp("napari") / "project"
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(40, 96, 80)).astype(np.float32)
    folder.mkdir()
    with mrcfile.new(folder / "t1.mrc") as file:
        file.set_data(volume)
        file.voxel_size = SPACING
    ts.convert(folder / "t1.mrc", folder / "tomograms")
    zyx = rng.uniform(5, 35, size=(12, 3)) * SPACING
    (folder / "resolved.yaml").write_text("species:\n- name: ribosome\n  radius: 60A\n")
    picks = ts.Particles.build(zyx, unit="angstrom", tomogram="t1", species="ribosome", score=np.linspace(0.9, 0.1, 12))
    ts.write_particles(folder / "picks" / "t1.csv", picks)
    return folder


@pytest.fixture
def viewer():
    """An empty window."""
    made = napari.Viewer(show=False)
    yield made
    made.close()


@pytest.fixture
def panel(viewer):
    """The panel in the window, as the plugin's menu opens it."""
    _, widget = viewer.window.add_plugin_dock_widget("tomostream", "Picks and clicks")
    return widget


def opened(viewer, path):
    return viewer.open(str(path), plugin="tomostream")


def test_napari_accepts_the_manifest():
    from npe2 import PluginManager, PluginManifest

    manifest = PluginManifest.from_distribution("tomostream")
    manifest.validate_imports()
    manager = PluginManager.instance()
    manager.discover()
    assert "tomostream" in manager


def test_a_tomogram_is_a_lazy_pyramid_in_angstrom(viewer, project, monkeypatch):
    from tomostream.tomogram import Tomogram

    sizes: list[int] = []
    read = Tomogram.read

    def spy(self, box):
        sizes.append(box.size)
        return read(self, box)

    monkeypatch.setattr(Tomogram, "read", spy)
    [layer] = opened(viewer, project / "tomograms" / "t1.ome.zarr")
    assert layer.multiscale
    assert layer.name == "t1"
    np.testing.assert_allclose(layer.scale, [SPACING] * 3)
    assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
    assert layer.data[0].shape == (40, 96, 80)
    assert sizes
    assert max(sizes) <= 96 * 80  # planes, never the volume
    plane = np.asarray(layer.data[0][7])
    np.testing.assert_array_equal(plane, ts.open(project / "tomograms" / "t1.ome.zarr")[7])
    np.testing.assert_allclose(layer.extent.world[1], np.array([39, 95, 79]) * SPACING)  # the last voxel's centre


def test_a_score_map_lies_over_its_tomogram(viewer, tmp_path):
    scores = np.random.default_rng(1).uniform(size=(20, 32, 32)).astype(np.float32)
    write_store(tmp_path / "map.ome.zarr", scores, kind="scores", species="ribosome", levels=1, spacing=SPACING)
    [layer] = opened(viewer, tmp_path / "map.ome.zarr")
    assert (layer.name, tuple(layer.contrast_limits), layer.blending) == ("map scores", (0.0, 1.0), "additive")
    assert layer.colormap.map(np.array([0.0]))[0, :3].tolist() == [0, 0, 0]  # where nothing scores, the tomogram is not tinted
    np.testing.assert_allclose(layer.scale, [SPACING] * 3)


def test_picks_are_balls_of_the_particle_s_size_at_their_places(viewer, project):
    opened(viewer, project / "tomograms" / "t1.ome.zarr")
    [layer] = opened(viewer, project / "picks" / "t1.csv")
    table = ts.read_particles(project / "picks" / "t1.csv")
    world = layer.data * np.asarray(layer.scale)
    np.testing.assert_allclose(world, table.position_zyx)
    np.testing.assert_allclose(layer.size * SPACING, 120.0)  # a radius of 60 A
    assert layer.features["species"].tolist() == ["ribosome"] * 12
    np.testing.assert_allclose(layer.features["score"], table.score)
    assert layer.features["label"].tolist() == [1] * 12


def test_a_slice_shows_the_cut_of_every_ball_that_it_touches(viewer, panel, project):
    del panel  # it makes slices thick enough
    [image] = opened(viewer, project / "tomograms" / "t1.ome.zarr")
    [layer] = opened(viewer, project / "picks" / "t1.csv")
    for z in (3, 12, 20, 31):
        viewer.dims.set_point(0, z * SPACING)
        distance = np.abs(layer.data[:, 0] - z)
        touched = np.flatnonzero(distance < 6.0)  # a radius of 60 A
        assert layer._slicing_state._view_indices.tolist() == touched.tolist()
        np.testing.assert_allclose(layer._view_size, 2 * np.sqrt(6.0**2 - distance[touched] ** 2))
        assert 0 < len(touched) < 12
    assert image.projection_mode == "none"  # thin still


def test_slider_and_threshold_show_the_best_picks_and_the_writer_leaves_out_the_rest(viewer, panel, project, tmp_path):
    [layer] = opened(viewer, project / "picks" / "t1.csv")
    assert panel.count.value() == 12
    panel.slider.setValue(5)
    assert np.flatnonzero(layer.shown).tolist() == [0, 1, 2, 3, 4]
    assert panel.shown.text() == "5 of 12 picks are shown"
    panel.threshold.setValue(0.1)
    panel.threshold.editingFinished.emit()
    assert layer.shown.all()
    panel.count.setValue(3)
    [path] = viewer.layers.save(str(tmp_path / "best.csv"), plugin="tomostream")
    kept, every = ts.read_particles(path), ts.read_particles(project / "picks" / "t1.csv")
    np.testing.assert_allclose(kept.position_zyx, every.position_zyx[:3])
    assert kept.score.tolist() == every.score[:3].tolist()
    assert kept.tomograms() == ["t1"]


def test_clicks_are_saved_with_their_labels_and_merged_with_what_others_did(viewer, panel, project, tmp_path):
    opened(viewer, project / "tomograms" / "t1.ome.zarr")
    panel.species.setText("ribosome")
    panel.new.click()
    layer = panel.clicks_layer
    layer.add([[10, 20, 30]])
    panel.none.setChecked(True)
    layer.add([[11, 50, 60]])
    panel.particle.setChecked(True)
    layer.add([[12, 70, 40]])
    table = tmp_path / "clicks.csv"
    panel.save_into(table)
    found = ts.read_particles(table)
    np.testing.assert_allclose(found.position_zyx, np.array([[10, 20, 30], [11, 50, 60], [12, 70, 40]]) * SPACING)
    assert found.label.tolist() == [1, 0, 1]
    assert layer.symbol.tolist()[1] != layer.symbol.tolist()[0]
    with table.open("a") as file:
        file.write("t1,ribosome,100,100,100,1\nt2,ribosome,5,5,5,1\n")
    layer.selected_data = {0}
    layer.remove_selected()
    layer.add([[13, 30, 30]])
    panel.save.click()
    rows = ts.read_particles(table)
    assert sorted(zip(rows.tomogram.tolist(), rows.position_zyx[:, 0].tolist(), strict=True)) == [
        ("t1", 100.0), ("t1", 110.0), ("t1", 120.0), ("t1", 130.0), ("t2", 5.0),
    ]  # fmt: skip
    assert "another program has added" in panel.message.text()
    panel.save.click()
    assert "0 added, 0 removed" in panel.message.text()


def test_clicks_that_are_opened_again_can_be_removed_and_a_broken_table_is_left_alone(viewer, panel, tmp_path):
    table = tmp_path / "clicks.csv"
    table.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom,label\nt1,a,10.123456,20,30,1\nt1,a,40,50,60,0\n")
    [layer] = opened(viewer, table)
    assert panel.clicks_layer.name == layer.name  # napari gives a plugin a proxy of it
    assert layer.features["label"].tolist() == [1, 0]
    layer.selected_data = {0}
    layer.remove_selected()
    panel.save.click()
    assert ts.read_particles(table).position_zyx.tolist() == [[60.0, 50.0, 40.0]]
    table.write_text("what is this\n1\n")
    layer.add([[1, 2, 3]])
    panel.save.click()
    assert "left unchanged" in panel.message.text()
    assert table.read_text() == "what is this\n1\n"


def test_clicks_of_napari_and_of_the_workbench_at_once_lose_nothing(viewer, panel, project, tmp_path):
    from tomostream.view.clicks import Click, ClickTable

    opened(viewer, project / "tomograms" / "t1.ome.zarr")
    panel.new.click()
    layer, table = panel.clicks_layer, tmp_path / "clicks.csv"
    workbench = ClickTable(table, spacing_of=lambda name: SPACING, tomogram="t1")

    def click_on() -> None:
        for number in range(30):
            workbench.patch(remove=[], add=[Click("t1", "particle", 5.0, 5.0, float(number), 1)])

    other = threading.Thread(target=click_on)
    other.start()
    for number in range(10):
        layer.add([[number, 60, 60]])
        panel.save_into(table)
    other.join()
    assert len(ts.read_particles(table)) == 40


def test_a_points_csv_of_napari_itself_is_a_table_of_labels(viewer, panel, project, tmp_path):
    opened(viewer, project / "tomograms" / "t1.ome.zarr")
    panel.new.click()
    panel.clicks_layer.add([[10, 20, 30], [11, 50, 60]])
    panel.none.setChecked(True)
    panel.clicks_layer.add([[12, 70, 40]])
    [path] = panel.clicks_layer.save(str(tmp_path / "t1.csv"), plugin="napari")
    found = read_table(path, format_name="napari", conversion=Conversion())
    assert found.unit == "voxel"
    np.testing.assert_allclose(found.position_zyx, [[10, 20, 30], [11, 50, 60], [12, 70, 40]])
    assert found.label.tolist() == [1, 1, 0]
    assert found.tomograms() == ["t1"]


def test_the_sample_has_its_particles_where_the_picture_is_dark(viewer):
    image, points = viewer.open_sample("tomostream", "simulated")
    volume = np.asarray(image.data)
    inside = [volume[tuple(np.rint(place).astype(int))] for place in points.data]
    assert len(points.data) > 20
    # four standard errors: of random places one sample in thirty thousand is so dark
    assert np.mean(inside) < volume.mean() - 4 * volume.std() / np.sqrt(len(inside))


def test_a_new_click_is_of_the_project_s_species_until_another_is_typed(viewer, panel, project, tmp_path):
    assert panel.species.text() == "particle"
    opened(viewer, project / "tomograms" / "t1.ome.zarr")
    assert (panel.species.text(), panel.radius.value()) == ("ribosome", 60.0)
    table = tmp_path / "clicks.csv"
    table.write_text(
        "tomogram,species,x_angstrom,y_angstrom,z_angstrom,label\nt1,fas,100,200,300,1\nt1,fas,300,200,100,1\nt1,rod,0,0,0,0\n"
    )
    [layer] = opened(viewer, table)
    assert panel.species.text() == "fas"
    layer.add([[50, 60, 70]])
    panel.save.click()
    assert ts.read_particles(table).species.tolist() == ["fas", "fas", "rod", "fas"]
    panel.species.setText("hsp104")
    panel.species.textEdited.emit("hsp104")
    opened(viewer, project / "picks" / "t1.csv")
    assert panel.species.text() == "hsp104"


def test_points_of_tomograms_that_are_not_open_are_hidden_beside_one_that_is(viewer, project, tmp_path):
    table = tmp_path / "clicks.csv"
    table.write_text("tomogram,species,x_angstrom,y_angstrom,z_angstrom\nt1,a,100,200,300\nt2,a,300,200,100\n")
    assert [layer.visible for layer in opened(viewer, table)] == [True, True]  # nothing is open that they could be mistaken for
    viewer.layers.clear()
    opened(viewer, project / "tomograms" / "t1.ome.zarr")
    assert [(layer.name, layer.visible) for layer in opened(viewer, table)] == [("t1 clicks", True), ("t2 clicks", False)]


@pytest.mark.skipif(not os.environ.get("TOMOSTREAM_SHOTS"), reason="TOMOSTREAM_SHOTS=FOLDER takes a picture of the window")
def test_picture_of_the_window(project):
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1200, 800)
    dock, _ = viewer.window.add_plugin_dock_widget("tomostream", "Picks and clicks")
    dock.show()
    image, points = viewer.open_sample("tomostream", "simulated")
    del image, points
    viewer.dims.set_point(0, 36 * 13.48)
    viewer.reset_view()
    for _ in range(5):
        napari.qt.get_qapp().processEvents()
    napari.utils.notifications.notification_manager.records.clear()
    viewer.screenshot(str(Path(os.environ["TOMOSTREAM_SHOTS"]) / "napari.png"), canvas_only=False, flash=False)
    viewer.close()

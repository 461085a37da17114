from tests.e2e.test_planted_world import *
from tests.e2e.conftest import *
def test_probe(rounds, base, exam, tmp_path):
    folder = tmp_path / "texts"
    world.write_texts(folder, {"tides": 20}, WORLD, seed=9)
    (folder / "leak.txt").write_text(exam.read_text())
    seen = rounds.run("own-folder", given(base, exam, folder), name="leak")
    print("LEAK", loop_pb2.Outcome.Name(seen.outcome), seen.reason)
    folder = tmp_path / "texts2"
    world.write_texts(folder, COUNTS, WORLD, seed=9)
    (folder / "leak.txt").write_text(exam.read_text())
    seen = rounds.run("own-folder", given(base, exam, folder), name="leak2")
    print("LEAK", loop_pb2.Outcome.Name(seen.outcome), seen.reason)
    print([(s.name,s.state,round(s.duration_s,1)) for s in seen.steps])

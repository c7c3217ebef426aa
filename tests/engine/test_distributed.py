"""Several processes: a failing one ends all, and another number of them goes on with the same data."""

from __future__ import annotations

import json
import time

from yolo_cosine import train
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.sinks.jsonl import read_records

# what a rank does at a step, in place of training on
TROUBLE = """
import os, signal, sys
from yolo_cosine import train
from yolo_cosine.engine.trainer import Trainer
original = Trainer.train_step
def troubled(self, batch, step):
    if step == 4 and self.world.rank == 1:
        {action}
    return original(self, batch, step)
Trainer.train_step = troubled
sys.exit(train.main(sys.argv[1:]))
"""


def test_a_slow_save_is_waited_for(write_run, tmp_path, torchrun):
    """The others are through long before the one that writes, and must not take it for a failed one."""
    slow = "os.kill(os.getpid(), signal.SIGTERM)"
    script = tmp_path / "troubled.py"
    script.write_text(
        "import time\nfrom yolo_cosine.engine import saving\nwrite = saving.write_checkpoint\n"
        "saving.write_checkpoint = lambda *a: (time.sleep(5 if '00005' in a[0].name else 0), write(*a))\n"
        + TROUBLE.format(action=slow)
    )
    done = torchrun("--cfg", str(write_run(checkpoint={"every": "2ep", "keep": 2})), script=script)
    assert "another process of the run failed" not in done.stderr
    assert CheckpointFolder(tmp_path / "runs/run/checkpoints").newest()[0].step == 5


def test_a_finished_run_gets_its_predictions_again(write_run, tmp_path, train_together):
    """They are those of the best weights, which are evaluated anew after a resume, when one process is left."""
    config = write_run(predictions=True, conf=0.0, plots=True)
    assert train.main(["--cfg", str(config)]) == 0
    run = tmp_path / "runs/run"
    before = (run / "predictions.json").read_text()
    (run / "predictions.json").unlink()
    go_on = ["--resume", str(run)]
    for ended in train_together(go_on, go_on):
        assert ended.code == 0 and "Traceback" not in ended.said, ended.said[-2000:]
    assert len(json.loads((run / "predictions.json").read_text())) == len(json.loads(before))


def test_an_epoch_of_another_length_is_refused(write_run, tmp_path, train_together):
    """25 images in batches of 8: the last has one, which two processes cannot share."""
    from yolo_cosine.data.shapes import generate

    data = generate(tmp_path / "odd" / "shapes", train=25, val=10)
    assert train.main(["--cfg", str(write_run(data=str(data), imgsz=96, batch=8))]) == 0
    go_on = ["--resume", str(tmp_path / "runs/run")]
    ended = train_together(go_on, go_on)
    assert ended[0].code == 2 and "an epoch had 4 steps, and among 2 process(es) it has 3" in ended[0].said


def test_a_signal_stops_all_of_them_well(write_run, tmp_path, torchrun):
    script = tmp_path / "troubled.py"
    script.write_text(TROUBLE.format(action="os.kill(os.getpid(), signal.SIGTERM)"))
    config = write_run(checkpoint={"every": "2ep", "keep": 2}, sync_norms=False)
    done = torchrun("--cfg", str(config), script=script)
    assert done.returncode != 0 and done.stderr.count("stopped by SIGTERM after 5 of 9 steps; everything is saved") == 1
    assert CheckpointFolder(tmp_path / "runs/run/checkpoints").newest()[0].step == 5


def test_one_that_fails_takes_the_others_down_and_one_process_goes_on(write_run, tmp_path, torchrun, capsys):
    script = tmp_path / "troubled.py"
    script.write_text(TROUBLE.format(action="raise ValueError('a bad rank')"))
    began = time.monotonic()
    done = torchrun("--cfg", str(write_run(checkpoint={"every": "1it", "keep": 2})), script=script)
    assert done.returncode != 0 and time.monotonic() - began < 90
    assert "another process of the run failed: rank 1 on" in done.stderr and "a bad rank" in done.stderr, done.stderr[
        -3000:
    ]
    run = tmp_path / "runs/run"
    assert CheckpointFolder(run / "checkpoints").newest()[0].step == 4
    # on another number of processes
    assert train.main(["--resume", str(run)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "processes was 2 and is 1 now" in said and "every step has the same images" in said
    assert steps(run) == list(range(9))


def test_after_a_kill_torchrun_starts_them_anew_and_the_run_goes_on(write_run, tmp_path, torchrun):
    """The command begins a run, and says nothing of going on."""
    script = tmp_path / "troubled.py"
    kill = "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0': os.kill(os.getpid(), signal.SIGKILL)"
    script.write_text(TROUBLE.format(action=kill))
    done = torchrun("--cfg", str(write_run(checkpoint={"every": "1it", "keep": 2})), script=script, restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "another process of the run failed: one is gone without a word" in done.stderr
    said = " ".join(done.stdout.split())
    assert "torchrun has started the processes anew, 1 time(s) by now; the run goes on" in said
    assert "going on after 4 steps" in said and steps(tmp_path / "runs/run") == list(range(9))
    assert not (tmp_path / "runs/run-2").exists()


def steps(run):
    return [r["step"] for r in read_records(run / "metrics.jsonl") if r["event"] == "step"]

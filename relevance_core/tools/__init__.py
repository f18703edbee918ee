"""Programs built on the loop: ablation, the CIKM files, the simulated market, the demo."""
